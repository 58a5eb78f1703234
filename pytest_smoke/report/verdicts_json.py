"""`verdicts.json`: the outcomes of a session as strict JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pytest_smoke.files import VERDICTS_SCHEMA, json_value
from pytest_smoke.outcome import Outcome


def verdicts_json(outcomes: Iterable[Outcome]) -> str:
    """Render `{"schema": 1, "outcomes": [...]}`, sorted by id."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.id)
    return "".join(verdicts_parts(outcome_json(outcome) for outcome in ordered))


def outcome_json(outcome: Outcome) -> str:
    """Render one outcome as it is in the file."""
    return tree_json(outcome.to_dict())


def verdicts_parts(outcomes: Iterable[str]) -> Iterator[str]:
    """Yield the parts of the file, from outcomes as they are in it and in their order."""
    yield f'{{\n "schema": {VERDICTS_SCHEMA},\n "outcomes": ['
    separator = "\n"
    for text in outcomes:
        yield f"{separator}  {text}"
        separator = ",\n"
    yield "]\n}\n" if separator == "\n" else "\n ]\n}\n"


def tree_json(outcome: Mapping[str, Any]) -> str:
    """Render the tree of an outcome as it is in the file, with a line for each of its keys, findings and facts.

    The values of a series stay on one line.
    """
    return _lines(json_value(outcome), _STRICT)


def lossless_json(outcome: Mapping[str, Any]) -> str:
    """Render the same with NaN and infinities as `json.loads` reads them; other readers of JSON do not."""
    return _lines(outcome, _LOSSLESS)


_STRICT = json.JSONEncoder(check_circular=False, allow_nan=False).encode
_LOSSLESS = json.JSONEncoder(check_circular=False).encode
"""As `json.dumps` without indentation, which is encoded in C; with it, encoding takes four times as long."""


def _lines(tree: Mapping[str, Any], encode: Callable[[Any], str]) -> str:
    lines = _SEPARATOR.join(f"{encode(key)}: {_value(value, encode)}" for key, value in tree.items())
    return f"{{\n   {lines}\n  }}"


_SEPARATOR = ",\n   "


def _value(value: Any, encode: Callable[[Any], str]) -> str:
    if isinstance(value, dict) and value:
        parts = f"{_SEPARATOR} ".join(f"{encode(key)}: {encode(part)}" for key, part in value.items())
        return f"{{\n    {parts}\n   }}"
    if isinstance(value, list) and value:
        return f"[\n    {f'{_SEPARATOR} '.join(map(encode, value))}\n   ]"
    return encode(value)
