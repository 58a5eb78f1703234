"""A corpus's manifest: rows or shards by source, written down instead of counted."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_smoke.errors import CorpusError

NAMES = ("manifest.json", "manifest.csv")
"""Files of a corpus that are taken for its manifest."""
UNITS = ("rows", "shards")
SHAPES = (
    "a list of objects with `source` and `rows` (or `shards`), or an object of source: number, "
    "either of them at the top or under `sources`"
)


def read_manifest(path: Path) -> tuple[Counter[str], str]:
    """Number by source, and what it is a number of: `rows` or `shards`. Entries of one source are added up.

    JSON: `[{"source": "nad", "rows": 7}, ...]`, `{"nad": 7, ...}` or `{"nad": {"rows": 7}, ...}`, also under a key
    `sources`. CSV: columns `source` and `rows` or `shards`; others are not looked at. Raises CorpusError.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CorpusError(f"{path}: the file cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: byte 0x{error.object[error.start]:02x} is not UTF-8") from None
    entries = list(_csv_entries(path, text) if path.suffix.lower() == ".csv" else _json_entries(path, text))
    if not entries:
        raise CorpusError(f"{path}: the manifest names no source")
    units = sorted({unit for _, _, unit in entries})
    if len(units) > 1:
        raise CorpusError(f"{path}: some entries give rows and some shards; give the same of all")
    counts: Counter[str] = Counter()
    for source, number, _ in entries:
        counts[source] += number
    return counts, units[0]


def is_manifest(path: Path) -> bool:
    """Whether a CSV file has the columns of a manifest; a JSON file is nothing else. Unreadable: False."""
    if path.suffix.lower() == ".json":
        return True
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader(stream), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return "source" in header and any(unit in header for unit in UNITS)


def _json_entries(path: Path, text: str) -> Iterator[tuple[str, int, str]]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for key, _ in pairs if sum(other == key for other, _ in pairs) > 1)
            raise CorpusError(f"{path}: the key {twice!r} is given twice")
        return found

    try:
        tree = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path}: not JSON: {error}") from None
    if isinstance(tree, dict) and isinstance(tree.get("sources"), dict | list):
        tree = tree["sources"]
    if isinstance(tree, dict):
        for source, entry in tree.items():
            yield _entry(entry if isinstance(entry, dict) else {"rows": entry}, source, f"{path}: source {source!r}")
    elif isinstance(tree, list):
        for number, entry in enumerate(tree, 1):
            place = f"{path}: entry {number}"
            if not isinstance(entry, dict) or not isinstance(entry.get("source"), str):
                raise CorpusError(f"{place} names no source; a manifest is {SHAPES}")
            yield _entry(entry, entry["source"], place)
    else:
        raise CorpusError(f"{path}: not a manifest; it is {SHAPES}")


def _csv_entries(path: Path, text: str) -> Iterator[tuple[str, int, str]]:
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    header = reader.fieldnames or []
    unit = next((unit for unit in UNITS if unit in header), None)
    if "source" not in header or unit is None:
        columns = ", ".join(header) or "none"
        raise CorpusError(f"{path}:1: a manifest has the columns source and rows (or shards); found {columns}")
    try:
        for row in reader:
            place = f"{path}:{reader.line_num}"
            if not row["source"]:
                raise CorpusError(f"{place}: the column source is empty")
            given = (row[unit] or "").strip()
            yield _entry({unit: int(given) if given.isascii() and given.isdigit() else given}, row["source"], place)
    except csv.Error as error:
        raise CorpusError(f"{path}:{reader.line_num}: not CSV: {error}") from None


def _entry(entry: dict[str, Any], source: str, place: str) -> tuple[str, int, str]:
    unit = next((unit for unit in UNITS if unit in entry), None)
    if unit is None:
        raise CorpusError(f"{place} has neither rows nor shards, but {', '.join(entry) or 'nothing'}")
    number = entry[unit]
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise CorpusError(f"{place}: {unit} is {number!r}; it must be a whole number, 0 or more")
    return source, number, unit
