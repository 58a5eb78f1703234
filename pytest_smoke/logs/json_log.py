"""JSON documents: Hugging Face's `trainer_state.json`, a list of records, or an object of equally long columns."""

from __future__ import annotations

import json
from typing import Any

from pytest_smoke.errors import LogError
from pytest_smoke.logs.line_log import flatten
from pytest_smoke.logs.log import Record, Table
from pytest_smoke.text import count, listed

_SHAPES = "an object with log_history (Hugging Face's trainer_state.json), a list of records, or equally long columns"


def read_json(text: str) -> Table | None:
    """Read a JSON document. Return None if the text is not one, or is a single line of JSON Lines.

    Raises LogError for a document of another shape.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    notes: list[str] = []
    if isinstance(document, dict) and isinstance(document.get("log_history"), list):
        entries = document["log_history"]
    elif isinstance(document, list):
        entries = document
    elif isinstance(document, dict) and "\n" not in text.strip() and any(map(_is_number, document.values())):
        return None
    elif isinstance(document, dict) and (columns := {k: v for k, v in document.items() if isinstance(v, list)}):
        entries = _transposed(columns)
    else:
        raise LogError("unreadable", f"the JSON document is not a log; allowed: {_SHAPES}")
    records = [Record(at, flatten(entry)) for at, entry in enumerate(entries, 1) if isinstance(entry, dict)]
    if skipped := len(entries) - len(records):
        what = "it is not a JSON object" if skipped == 1 else "they are not JSON objects"
        notes.append(f"skipped {skipped:,} of {count(len(entries), 'record')}: {what}")
    if not records:
        raise LogError("empty", "the log has no records")
    return Table(records=records, notes=notes, unit="record", noun="record")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _transposed(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        text = f"the columns of the JSON document have different lengths: {listed(sorted(lengths))}"
        raise LogError("unreadable", text)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
