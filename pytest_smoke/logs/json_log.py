"""JSON documents: Hugging Face's `trainer_state.json`, a list of records, or an object of equally long columns."""

from __future__ import annotations

import json
from typing import Any

from pytest_smoke.errors import LogError
from pytest_smoke.logs.line_log import flat
from pytest_smoke.logs.log import Row, Table

_SHAPES = "a log_history (Hugging Face's trainer_state.json), a list of records, or columns of equal length"


def read_json(text: str) -> Table | None:
    """The records of a JSON document; None if the text is none, or a single line of JSON Lines.

    Raises `LogError` for a document of another shape.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    notes: list[str] = []
    if isinstance(document, dict) and isinstance(document.get("log_history"), list):
        records = document["log_history"]
    elif isinstance(document, list):
        records = document
    elif isinstance(document, dict) and "\n" not in text.strip() and any(map(_is_number, document.values())):
        return None
    elif isinstance(document, dict) and (columns := {k: v for k, v in document.items() if isinstance(v, list)}):
        records = _transposed(columns)
    else:
        raise LogError("unreadable", f"the JSON document is no log; understood: {_SHAPES}")
    rows = [Row(at, flat(record)) for at, record in enumerate(records, 1) if isinstance(record, dict)]
    if len(rows) < len(records):
        notes.append(f"{len(records) - len(rows)} of {len(records)} entries are no records: left out")
    if not rows:
        raise LogError("empty", "the log's history is empty")
    return Table(rows=rows, notes=notes, unit="entry")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _transposed(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        raise LogError("unreadable", f"the JSON document's columns have different lengths: {sorted(lengths)}")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
