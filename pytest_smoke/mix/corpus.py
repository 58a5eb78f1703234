"""Rows by source in a folder of data files, told apart by the files' names or by the rows' own field."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from pytest_smoke.errors import CorpusError
from pytest_smoke.mix import manifest as audit_manifest
from pytest_smoke.mix.rows import FORMATS, format_of, rows_of

By = Literal["manifest", "rows", "shards"]

BESIDE = (".json", ".yaml", ".yml", ".toml", ".md", ".rst", ".html", ".crc", ".md5", ".sha256", "")
"""Endings of what lies beside data (a licence has none). Any other that is not data is an error: it might be."""
NAMED = 5
"""Files a note names before it counts the rest."""

_SHARD = re.compile(
    r"[-_.]?(?:(?:part|shard|chunk)[-_.]?)?\d+(?:[-_]of[-_]\d+)?(?:\.(?:snappy|gz|zstd|lz4|brotli))?$", re.IGNORECASE
)
_HIVE = "source="


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """What a corpus holds."""

    counts: dict[str, int]
    """Rows or shards by source, by name."""
    unit: str
    """`rows` or `shards`."""
    notes: tuple[str, ...] = ()
    """Where the numbers come from, and what was left out."""


def count(path: Path, *, by: By | None = None, source_field: str | None = None) -> Corpus:
    """Count a corpus: a folder, one data file, or a manifest.

    `by` None: the folder's manifest where it has one and no `source_field` is asked for, else rows. `source_field`:
    each row's source is in its own field of that name. Raises CorpusError, also where there is nothing to draw from.
    """
    if not path.exists():
        raise CorpusError(f"{path}: there is no such file or folder")
    manifest = _manifest(path, by, source_field)
    corpus = _from_manifest(manifest) if manifest is not None else _from_files(path, by, source_field)
    if not any(corpus.counts.values()):
        raise CorpusError(f"{path}: there is not one of the {corpus.unit} that a run could draw from")
    return corpus


def source_of(file: Path, folder: Path) -> str:
    """The source whose file in `folder` this is.

    In this order: a folder `source=NAME` on the way (Hive's spelling); the first folder on the way; the file's name up
    to a number at its end, with `part`, `shard` or `chunk` before it, or `of N` behind it. Where the name is no more
    than such a number, it is the name of `folder`.
    """
    *folders, name = file.relative_to(folder).parts
    hive = [part for part in folders if part.startswith(_HIVE) and part != _HIVE]
    if hive:
        return unquote(hive[0].removeprefix(_HIVE))
    if folders:
        return folders[0]
    stem = name[: -len(format_of(name) or "")] or name
    return _SHARD.sub("", stem) or folder.resolve().name


def _manifest(path: Path, by: By | None, source_field: str | None) -> Path | None:
    if by in ("rows", "shards") or source_field is not None:
        if by == "manifest":
            raise CorpusError(f"{path}: a manifest has no rows whose field {source_field!r} could be read")
        return None
    if path.is_file():
        return path if path.suffix.lower() in (".json", ".csv") and audit_manifest.is_manifest(path) else None
    found = [path / name for name in audit_manifest.NAMES if (path / name).is_file()]
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise CorpusError(f"{path}: both {names} are here; name one of them, or count (--by rows)")
    if by == "manifest" and not found:
        raise CorpusError(f"{path}: there is no {' or '.join(audit_manifest.NAMES)} here")
    return found[0] if found else None


def _from_manifest(path: Path) -> Corpus:
    counts, unit = audit_manifest.read_manifest(path)
    return Corpus(counts=dict(sorted(counts.items())), unit=unit, notes=(f"{unit} are those that {path} states",))


def _from_files(path: Path, by: By | None, source_field: str | None) -> Corpus:
    folder = path if path.is_dir() else path.parent
    files, beside = _files(path)
    counts: Counter[str] = Counter()
    empty: list[Path] = []
    if by == "shards":
        if source_field is not None:
            raise CorpusError(f"{path}: shards have no field {source_field!r}; count rows")
        counts.update(source_of(file, folder) for file in files)
    else:
        for file in files:
            found = rows_of(file, default=source_of(file, folder), source_field=source_field)
            counts.update(found)
            if not any(found.values()):
                empty.append(file)
    notes = []
    if empty:
        notes.append(f"without a row: {_listed(empty, folder)}")
    if beside:
        notes.append(f"left out, as no data: {_listed(beside, folder)}")
    unit = "shards" if by == "shards" else "rows"
    return Corpus(counts=dict(sorted(counts.items())), unit=unit, notes=tuple(notes))


def _files(path: Path) -> tuple[list[Path], list[Path]]:
    """Data files, in order, and what lies beside them."""
    files: list[Path] = []
    beside: list[Path] = []
    for file in [path] if path.is_file() else _walk(path):
        if format_of(file.name):
            files.append(file)
        elif file.suffix.lower() in BESIDE and file != path:
            beside.append(file)
        else:
            raise CorpusError(f"{file}: unknown format; understood: {', '.join(FORMATS)}")
    if not files:
        raise CorpusError(f"{path}: there is no data file here; understood: {', '.join(FORMATS)}")
    return files, beside


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below, through links too, but for names that start with `.` or `_` (what Spark leaves behind)."""

    def refuse(error: OSError) -> None:
        raise CorpusError(f"{error.filename}: the folder cannot be read: {error.strerror}") from None

    seen: set[tuple[int, int]] = set()
    for where, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        state = os.stat(where)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()  # a link to a folder that was counted, or that holds this one
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        yield from (Path(where, name) for name in sorted(names) if not name.startswith((".", "_")))


def _listed(files: list[Path], folder: Path) -> str:
    names = ", ".join(str(file.relative_to(folder)) for file in files[:NAMED])
    return names + (f" and {len(files) - NAMED} more" if len(files) > NAMED else "")
