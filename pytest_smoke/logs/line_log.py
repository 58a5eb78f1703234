"""Logs of one record a line: JSON Lines, and what trainers print.

Understood in a line: a JSON object (nested keys joined by `/`), alone or after a logger's prefix (fairseq); a Python
dict of numbers (Hugging Face); else pairs of a name and a number, as `iter 100: loss 2.31, lr 1e-4` (nanoGPT),
`lm loss: 2.3E+00 |` (Megatron), `Step [100/600], Loss: 2.31`, `loss=2.31`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pytest_smoke.errors import LogError
from pytest_smoke.logs.log import Cell, Row, Table

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
_CUT = 400
"""A log line longer than this is no record; its first characters are still read."""


def flat(record: dict[str, Any], prefix: str = "") -> dict[str, Cell]:
    """The scalars of a JSON object, nested keys joined by `/`; lists are left out, true and false are 1 and 0."""
    cells: dict[str, Cell] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            cells.update(flat(value, f"{prefix}{key}/"))
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
    """The numbers in a line; None if it holds none."""
    start, end = line.find("{"), line.rfind("}") + 1
    if 0 <= start < end:
        braces = line[start:end]
        found = _object(braces) or dict(_QUOTED_PAIR.findall(braces))
        if found:
            return found
    if line.lstrip().startswith("{"):
        return None
    return {name.strip(): value for name, value in _PAIR.findall(line[:_CUT])} or None


def _object(text: str) -> dict[str, Cell] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return flat(found) if isinstance(found, dict) else None


def is_json_lines(text: str) -> bool:
    """Whether the first line with anything in it is a JSON object."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return first.lstrip().startswith("{") and _object(first) is not None


def read_lines(text: str) -> Table:
    """The lines that hold numbers. A progress bar's carriage return starts a new line. Raises `LogError`."""
    lines = [_ANSI.sub("", line) for line in re.split(r"\r\n|\n|\r", text)]
    if not any(line.strip() for line in lines):
        raise LogError("empty", "the log is empty")
    strict, rows, bad = is_json_lines(text), [], []
    for at, line in enumerate(lines, 1):
        record = _object(line) if strict else record_of(line)
        if record:
            rows.append(Row(at, record))
        elif strict and line.strip() and record is None:
            bad.append(at)
    notes = []
    if bad and bad[-1] == len(lines):
        notes.append(f"the last line ({bad.pop()}) is cut off: left out")
    elif not strict and lines[-1].lstrip().startswith("{") and "}" not in lines[-1]:
        notes.append(f"the last line ({len(lines)}) is cut off: left out")
    if bad:
        notes.append(f"{len(bad)} lines are not JSON (first: line {bad[0]}): left out")
    if not rows:
        raise LogError("no-loss-column", "no line of the log holds a named number, as in 'step 10: loss 2.3'")
    return Table(rows=rows, notes=notes)
