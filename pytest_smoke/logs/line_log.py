"""Logs with one record per line: JSON Lines, and what trainers print.

A line may hold a JSON object (nested keys are joined by `/`), alone or after a logger's prefix (fairseq); a Python dict
of numbers (Hugging Face); or pairs of a name and a number, as `iter 100: loss 2.31, lr 1e-4` (nanoGPT),
`lm loss: 2.3E+00 |` (Megatron), `Step [100/600], Loss: 2.31`, `loss=2.31`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pytest_smoke.errors import LogError
from pytest_smoke.logs.log import Cell, Record, Table
from pytest_smoke.text import count

_NUMBER = r"[-+]?(?:nan|inf(?:inity)?|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?)"
_QUOTED_PAIR = re.compile(rf"""['"]([^'"]+)['"]\s*:\s*['"]?({_NUMBER}|none|null)(?![\w.])""", re.IGNORECASE)
_QUALIFIERS = (
    "train|training|val|valid|validation|eval|evaluation|test|dev|learning|grad|gradient|total|lm|global|avg|mean|num|probe"
    "|running|batch|epoch|ce|kl|nll|aux"
)
_PAIR = re.compile(
    rf"(?<![\w.])((?:(?:{_QUALIFIERS})[ _])?[^\W\d][\w./-]*?)\s*(?:[:=]\s*|\s)\[?\s*({_NUMBER})"
    r"(?=$|[\s,;:|/)\]}]|[a-z%])",
    re.IGNORECASE,
)
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_MAX_PAIR_CHARS = 400
"""Pairs are searched in this many characters of a line: longer lines are rarely records."""


def flatten(record: dict[str, Any], prefix: str = "") -> dict[str, Cell]:
    """Return the scalars of a JSON object, nested keys joined by `/`, booleans as 1 and 0; lists are left out."""
    cells: dict[str, Cell] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            cells.update(flatten(value, f"{prefix}{key}/"))
        elif isinstance(value, str) or value is None:
            cells[prefix + key] = value
        elif isinstance(value, int | float):
            cells[prefix + key] = _float(value)
    return cells


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond 1.8e308
        return float("inf") if value > 0 else float("-inf")


def record_of(line: str) -> dict[str, Cell] | None:
    """Return the numbers in a line by name; None if there are none."""
    start, end = line.find("{"), line.rfind("}") + 1
    if 0 <= start < end:
        braces = line[start:end]
        found = _object(braces) or dict(_QUOTED_PAIR.findall(braces))
        if found:
            return found
    if line.lstrip().startswith("{"):
        return None
    return {name.strip(): value for name, value in _PAIR.findall(line[:_MAX_PAIR_CHARS])} or None


def _object(text: str) -> dict[str, Cell] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return flatten(found) if isinstance(found, dict) else None


def is_json_lines(text: str) -> bool:
    """Whether the first line that is not blank is a JSON object."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return first.lstrip().startswith("{") and _object(first) is not None


def read_lines(text: str) -> Table:
    """Read the lines that hold numbers. The carriage return of a progress bar starts a new line. Raises LogError."""
    lines = [_ANSI.sub("", line) for line in re.split(r"\r\n|\n|\r", text)]
    if not any(line.strip() for line in lines):
        raise LogError("empty", "the log is empty")
    strict, records, malformed = is_json_lines(text), [], []
    for at, line in enumerate(lines, 1):
        cells = _object(line) if strict else record_of(line)
        if cells:
            records.append(Record(at, cells))
        elif strict and line.strip() and cells is None:
            malformed.append(at)
    notes = []
    if malformed and malformed[-1] == len(lines):
        notes.append(f"skipped the last line (line {malformed.pop()}): it is incomplete")
    elif not strict and lines[-1].lstrip().startswith("{") and "}" not in lines[-1]:
        notes.append(f"skipped the last line (line {len(lines)}): it is incomplete")
    if malformed:
        notes.append(f"skipped {count(len(malformed), 'line')} without a JSON object (first: line {malformed[0]})")
    if not records:
        raise LogError("no-loss-column", "no line of the log has a name with a number, as in 'step 10: loss 2.3'")
    return Table(records=records, notes=notes)
