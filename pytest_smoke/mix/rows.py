"""Rows in one data file: Parquet, JSON Lines or CSV, the text formats compressed by gzip or not."""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pytest_smoke.errors import CorpusError

FORMATS = (".parquet", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz")
"""Endings of the files that are understood."""


def format_of(name: str) -> str | None:
    """The ending of `FORMATS` that the file's name has; None if it is another."""
    return next((ending for ending in FORMATS if name.lower().endswith(ending)), None)


def rows_of(path: Path, *, default: str, source_field: str | None = None) -> Counter[str]:
    """Rows of the file by source: all of `default`, or each of what its own field `source_field` says.

    A blank line is no row, nor is a CSV file's header; the lines of JSON Lines are parsed only for a field.
    Raises CorpusError.
    """
    ending = format_of(path.name)
    if ending is None:
        raise CorpusError(f"{path}: unknown format; understood: {', '.join(FORMATS)}")
    if not path.is_file():
        raise CorpusError(f"{path}: this is not a regular file, or its link leads nowhere")
    count = {".parquet": _parquet, ".jsonl": _json_lines, ".csv": _csv}[ending.removesuffix(".gz")]
    try:
        return count(path, default, source_field)
    except (OSError, EOFError, zlib.error) as error:  # a truncated gzip file is an EOFError
        what = getattr(error, "strerror", None) or str(error)
        raise CorpusError(f"{path}: the file cannot be read: {what}") from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: byte 0x{error.object[error.start]:02x} is not UTF-8") from None


@contextmanager
def _opened(path: Path, mode: str, **how: Any) -> Iterator[IO[Any]]:
    opener: Any = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, mode, **how) as stream:
        yield stream


def _json_lines(path: Path, default: str, field: str | None) -> Counter[str]:
    counts: Counter[str] = Counter()
    with _opened(path, "rb") as stream:
        if field is None:
            return Counter({default: sum(1 for line in stream if not line.isspace())})
        for number, line in enumerate(stream, 1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                raise CorpusError(f"{path}:{number}: the line is not JSON") from None
            counts[_named(row.get(field) if isinstance(row, dict) else None, field, f"{path}:{number}")] += 1
    return counts


def _csv(path: Path, default: str, field: str | None) -> Counter[str]:
    counts: Counter[str] = Counter()
    limit = csv.field_size_limit(2**31 - 1)  # a document is longer than the module's 128 KiB
    try:
        with _opened(path, "rt", encoding="utf-8-sig", newline="") as stream:
            # Strict: an open quote would swallow the rows behind it without a word.
            reader = csv.reader(stream, strict=True)
            try:
                header = next(reader, [])
                if field is not None and header and field not in header:
                    raise CorpusError(f"{path}:1: there is no column {field!r}; the columns are {', '.join(header)}")
                column = header.index(field) if field is not None and header else None
                for row in reader:
                    if column is not None and row:
                        value = row[column] if column < len(row) else None
                        counts[_named(value, str(field), f"{path}:{reader.line_num}")] += 1
                    elif row:
                        counts[default] += 1
            except csv.Error as error:
                raise CorpusError(f"{path}:{reader.line_num}: not CSV: {error}") from None
    finally:
        csv.field_size_limit(limit)
    return counts if counts else Counter({default: 0} if field is None else {})


def _parquet(path: Path, default: str, field: str | None) -> Counter[str]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise CorpusError(
            f"{path}: rows of Parquet files are read with pyarrow; pip install 'pytest-verdict-smoke[parquet]', "
            "or count shards instead (--by shards)"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            if field is None:
                return Counter({default: file.metadata.num_rows})
            if field not in file.schema_arrow.names:
                names = ", ".join(file.schema_arrow.names)
                raise CorpusError(f"{path}: there is no column {field!r}; the columns are {names}")
            counts: Counter[str] = Counter()
            for batch in file.iter_batches(columns=[field]):
                counts.update(_named(value, field, str(path)) for value in batch.column(0).to_pylist())
            return counts
    except pyarrow.ArrowException as error:
        raise CorpusError(f"{path}: not a Parquet file: {error}") from None


def _named(value: Any, field: str, place: str) -> str:
    if isinstance(value, str) and value:
        return sys.intern(value)
    found = "nothing" if value is None or value == "" else repr(value)
    raise CorpusError(f"{place}: the field {field!r} holds {found}; it must be the source's name")
