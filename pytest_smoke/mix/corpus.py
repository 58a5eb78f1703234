"""Rows by source in a corpus: counted in its data files, or taken from its manifest."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import unquote

from pytest_smoke.errors import CorpusError
from pytest_smoke.files import invalid_json, read_failure
from pytest_smoke.plain import safe_repr
from pytest_smoke.text import listed

By = Literal["manifest", "rows", "shards"]

FORMATS = (".parquet", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz")
"""Endings of data files."""
MANIFESTS = ("manifest.json", "manifest.csv")
"""Names of the files that are read as the manifest of a folder."""
UNITS = ("rows", "shards")
OTHER_ENDINGS = (".json", ".yaml", ".yml", ".toml", ".md", ".rst", ".html", ".crc", ".md5", ".sha256", "")
"""Endings of files that accompany data (a licence has none). Any other ending is an error: the file might be data."""
MANIFEST_SHAPES = "a list of objects with source and rows (or shards), or an object with one number per source"

MAX_ROWS = 2**63
"""Rows of a source are fewer: readers of JSON, and C, have 64 bits for an integer."""
_SHARD = re.compile(
    r"[-_.]?(?:(?:part|shard|chunk)[-_.]?)?\d+(?:[-_]of[-_]\d+)?(?:\.(?:snappy|gz|zstd|lz4|brotli))?$", re.IGNORECASE
)
_HIVE = "source="
_CSV_FIELD_LIMIT = 2**31 - 1
"""Largest field that is read: documents are longer than the csv module's default of 128 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The size of each source of a corpus."""

    counts: dict[str, int]
    """Rows or shards by source, sorted by name."""
    unit: str
    """What was counted: `rows` or `shards`."""
    notes: tuple[str, ...] = ()
    """Where the numbers come from, and what was left out."""


def count_corpus(path: Path, *, by: By | None = None, source_field: str | None = None) -> Corpus:
    """Count the rows or shards of a corpus by source.

    Args:
        path: A folder of data files, a single data file, or a manifest.
        by: What to count. None: what the manifest states if there is one and no `source_field` is given, else rows.
        source_field: The field of each row that names its source; None: sources are told apart by `source_of`.

    Raises CorpusError, also if the corpus is empty.
    """
    if not path.exists():
        raise CorpusError(f"{path}: file or folder not found")
    manifest = _manifest(path, by, source_field)
    corpus = _from_manifest(manifest) if manifest is not None else _from_files(path, by, source_field)
    if not any(corpus.counts.values()):
        raise CorpusError(f"{path}: the corpus has no {corpus.unit}")
    return corpus


def source_of(file: Path, folder: Path) -> str:
    """Return the source that a file in `folder` belongs to.

    The first of: a folder named `source=NAME` on the way (Hive's spelling); the topmost folder on the way; the file's
    name without a shard number at its end (`-00001-of-00042`, `.part-3`). A file whose name is only a shard number
    belongs to a source named after `folder`.
    """
    *folders, name = file.relative_to(folder).parts
    hive = [part for part in folders if part.startswith(_HIVE) and part != _HIVE]
    if hive:
        return unquote(hive[0].removeprefix(_HIVE))
    if folders:
        return folders[0]
    stem = name[: -len(format_of(name) or "")] or name
    return _SHARD.sub("", stem) or folder.resolve().name


def format_of(name: str) -> str | None:
    """Return the ending in `FORMATS` that a file's name has; None for other files."""
    return next((ending for ending in FORMATS if name.lower().endswith(ending)), None)


def count_rows(path: Path, *, default: str, source_field: str | None = None) -> Counter[str]:
    """Count the rows of one data file by source: all for `default`, or each for what its `source_field` says.

    Blank lines and CSV headers are not rows. JSON Lines are parsed only if `source_field` is given. Raises CorpusError.
    """
    ending = format_of(path.name)
    if ending is None:
        raise CorpusError(f"{path}: unknown format; allowed: {', '.join(FORMATS)}")
    if not path.is_file():
        raise CorpusError(f"{path}: not a regular file, or a broken link")
    count = {".parquet": _count_parquet, ".jsonl": _count_json_lines, ".csv": _count_csv}[ending.removesuffix(".gz")]
    try:
        return count(path, default, source_field)
    except (OSError, EOFError, zlib.error) as error:  # a truncated gzip file is an EOFError
        cause = getattr(error, "strerror", None) or str(error)
        raise CorpusError(f"{path}: cannot be read: {cause}") from None
    except UnicodeDecodeError as error:
        raise CorpusError(_not_utf8(path, error)) from None


def _from_files(path: Path, by: By | None, source_field: str | None) -> Corpus:
    folder = path if path.is_dir() else path.parent
    files, ignored = _files(path)
    counts: Counter[str] = Counter()
    empty: list[Path] = []
    if by == "shards":
        if source_field is not None:
            raise CorpusError(f"{path}: shards do not have a field {source_field!r}; count rows (--by rows)")
        counts.update(source_of(file, folder) for file in files)
    else:
        for file in files:
            rows = count_rows(file, default=source_of(file, folder), source_field=source_field)
            counts.update(rows)
            if not any(rows.values()):
                empty.append(file)
    notes = []
    if empty:
        notes.append(f"files without rows: {listed(file.relative_to(folder) for file in empty)}")
    if ignored:
        notes.append(f"ignored, not data files: {listed(file.relative_to(folder) for file in ignored)}")
    unit = "shards" if by == "shards" else "rows"
    return Corpus(counts=dict(sorted(counts.items())), unit=unit, notes=tuple(notes))


def _files(path: Path) -> tuple[list[Path], list[Path]]:
    """Return data files in order, and the files that accompany them. Raises CorpusError for unknown formats."""
    files: list[Path] = []
    ignored: list[Path] = []
    for file in [path] if path.is_file() else _walk(path):
        if format_of(file.name):
            files.append(file)
        elif file.suffix.lower() in OTHER_ENDINGS and file != path:
            ignored.append(file)
        else:
            raise CorpusError(f"{file}: unknown format; allowed: {', '.join(FORMATS)}")
    if not files:
        raise CorpusError(f"{path}: there are no data files in this folder; allowed: {', '.join(FORMATS)}")
    return files, ignored


def _walk(folder: Path) -> Iterator[Path]:
    """Yield every file below `folder`, following links, except names that start with `.` or `_` (as Spark's do)."""

    def refuse(error: OSError) -> None:
        raise CorpusError(f"{error.filename}: the folder cannot be read: {error.strerror}") from None

    seen: set[tuple[int, int]] = set()
    for where, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        state = os.stat(where)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()  # a link to a folder that was counted already, or to one of its parents
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        yield from (Path(where, name) for name in sorted(names) if not name.startswith((".", "_")))


@contextmanager
def _opened(path: Path, mode: str, **options: Any) -> Iterator[IO[Any]]:
    opener: Any = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, mode, **options) as stream:
        yield stream


def _count_json_lines(path: Path, default: str, field: str | None) -> Counter[str]:
    counts: Counter[str] = Counter()
    with _opened(path, "rb") as stream:
        if field is None:
            return Counter({default: sum(1 for line in stream if not line.isspace())})
        for at, line in enumerate(stream, 1):
            if line.isspace():
                continue
            try:
                row = json.loads(line.rstrip())
            except json.JSONDecodeError as error:
                raise CorpusError(f"{path}:{at}:{error.colno}: not valid JSON ({error.msg})") from None
            except (ValueError, RecursionError) as error:
                raise CorpusError(invalid_json(f"{path}:{at}", error)) from None
            counts[_source_name(row.get(field) if isinstance(row, dict) else None, field, f"{path}:{at}")] += 1
    return counts


def _count_csv(path: Path, default: str, field: str | None) -> Counter[str]:
    counts: Counter[str] = Counter()
    limit = csv.field_size_limit(_CSV_FIELD_LIMIT)
    try:
        with _opened(path, "rt", encoding="utf-8-sig", newline="") as stream:
            # Strict, because an unclosed quote would otherwise swallow the rows after it.
            reader = csv.reader(stream, strict=True)
            try:
                header = next(reader, [])
                if field is not None and header and field not in header:
                    raise CorpusError(f"{path}:1: there is no column {field!r}; columns: {', '.join(header)}")
                column = header.index(field) if field is not None and header else None
                for row in reader:
                    if column is not None and row:
                        value = row[column] if column < len(row) else None
                        counts[_source_name(value, str(field), f"{path}:{reader.line_num}")] += 1
                    elif row:
                        counts[default] += 1
            except csv.Error as error:
                raise CorpusError(f"{path}:{reader.line_num}: not CSV: {error}") from None
    finally:
        csv.field_size_limit(limit)
    return counts if counts else Counter({default: 0} if field is None else {})


def _count_parquet(path: Path, default: str, field: str | None) -> Counter[str]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise CorpusError(
            f"{path}: counting rows of Parquet files needs pyarrow: pip install 'pytest-verdict-smoke[parquet]', "
            "or count shards (--by shards)"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            if field is None:
                return Counter({default: file.metadata.num_rows})
            if field not in file.schema_arrow.names:
                columns = ", ".join(file.schema_arrow.names)
                raise CorpusError(f"{path}: there is no column {field!r}; columns: {columns}")
            counts: Counter[str] = Counter()
            for batch in file.iter_batches(columns=[field]):
                counts.update(_source_name(value, field, str(path)) for value in batch.column(0).to_pylist())
            return counts
    except pyarrow.ArrowException as error:
        raise CorpusError(f"{path}: not a Parquet file: {error}") from None


def _source_name(value: Any, field: str, place: str) -> str:
    if isinstance(value, str) and value:
        return sys.intern(value)
    shown = "empty" if value is None or value == "" else repr(value)
    raise CorpusError(f"{place}: the field {field!r} is {shown}; it must be the name of a source")


def _not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    return f"{path}: byte 0x{error.object[error.start]:02x} is not UTF-8"


def _manifest(path: Path, by: By | None, source_field: str | None) -> Path | None:
    """Return the manifest to read; None if data files are to be counted."""
    if by in ("rows", "shards") or source_field is not None:
        if by == "manifest":
            raise CorpusError(f"{path}: --source-field reads rows, and a manifest has none; count rows (--by rows)")
        return None
    if path.is_file():
        return path if path.suffix.lower() in (".json", ".csv") and _is_manifest(path) else None
    found = [path / name for name in MANIFESTS if (path / name).is_file()]
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise CorpusError(f"{path}: the folder has both {names}; name one of them, or count rows (--by rows)")
    if by == "manifest" and not found:
        raise CorpusError(f"{path}: there is no {' or '.join(MANIFESTS)} in this folder")
    return found[0] if found else None


def _is_manifest(path: Path) -> bool:
    """Whether a JSON or CSV file is a manifest: every JSON file is, and a CSV file with the columns of one."""
    if path.suffix.lower() == ".json":
        return True
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader(stream), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return "source" in header and any(unit in header for unit in UNITS)


def _from_manifest(path: Path) -> Corpus:
    """Read a manifest; several entries of one source are added up.

    JSON: `[{"source": "nad", "rows": 7}, ...]`, `{"nad": 7, ...}` or `{"nad": {"rows": 7}, ...}`, also under a key
    `sources`. CSV: columns `source` and `rows` or `shards`; others are ignored. Raises CorpusError.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CorpusError(f"{path}: {read_failure(error)}") from None
    except UnicodeDecodeError as error:
        raise CorpusError(_not_utf8(path, error)) from None
    entries = list(_csv_entries(path, text) if path.suffix.lower() == ".csv" else _json_entries(path, text))
    if not entries:
        raise CorpusError(f"{path}: the manifest does not name any source")
    units = sorted({unit for _, _, unit in entries})
    if len(units) > 1:
        raise CorpusError(f"{path}: some entries state rows, others shards; state the same for all")
    counts: Counter[str] = Counter()
    for source, amount, _ in entries:
        counts[source] += amount
    notes = (f"the numbers of {units[0]} are taken from {path}",)
    return Corpus(counts=dict(sorted(counts.items())), unit=units[0], notes=notes)


def _json_entries(path: Path, text: str) -> Iterator[tuple[str, int, str]]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        tree = dict(pairs)
        if len(tree) < len(pairs):
            twice = next(key for key, _ in pairs if sum(other == key for other, _ in pairs) > 1)
            raise CorpusError(f"{path}: the key {twice!r} is given twice")
        return tree

    try:
        tree = json.loads(text, object_pairs_hook=unique)
    except CorpusError:
        raise
    except (ValueError, RecursionError) as error:
        raise CorpusError(invalid_json(path, error)) from None
    if isinstance(tree, dict) and isinstance(tree.get("sources"), dict | list):
        tree = tree["sources"]
    if isinstance(tree, dict):
        for source, entry in tree.items():
            yield _entry(entry if isinstance(entry, dict) else {"rows": entry}, source, f"{path}: source {source!r}")
    elif isinstance(tree, list):
        for at, entry in enumerate(tree, 1):
            place = f"{path}: entry {at}"
            if not isinstance(entry, dict) or not isinstance(entry.get("source"), str):
                raise CorpusError(f"{place} does not name a source; allowed: {MANIFEST_SHAPES}")
            yield _entry(entry, entry["source"], place)
    else:
        raise CorpusError(f"{path}: not a manifest; allowed: {MANIFEST_SHAPES}")


def _csv_entries(path: Path, text: str) -> Iterator[tuple[str, int, str]]:
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    header = reader.fieldnames or []
    unit = next((unit for unit in UNITS if unit in header), None)
    if "source" not in header or unit is None:
        columns = ", ".join(header) or "none"
        raise CorpusError(f"{path}:1: a manifest needs the columns source and rows (or shards); columns: {columns}")
    try:
        for row in reader:
            place = f"{path}:{reader.line_num}"
            if not row["source"]:
                raise CorpusError(f"{place}: the column source is empty")
            cell = (row[unit] or "").strip()
            is_number = cell.isascii() and cell.isdigit() and len(cell) <= len(str(MAX_ROWS))
            yield _entry({unit: int(cell) if is_number else cell}, row["source"], place)
    except csv.Error as error:
        raise CorpusError(f"{path}:{reader.line_num}: not CSV: {error}") from None


def _entry(entry: dict[str, Any], source: str, place: str) -> tuple[str, int, str]:
    unit = next((unit for unit in UNITS if unit in entry), None)
    if unit is None:
        raise CorpusError(f"{place} has neither rows nor shards; its keys: {', '.join(entry) or 'none'}")
    amount = entry[unit]
    if not isinstance(amount, int) or isinstance(amount, bool) or not 0 <= amount < MAX_ROWS:
        raise CorpusError(f"{place}: {unit} is {safe_repr(amount)}; it must be a whole number of 0 or more")
    return source, amount, unit
