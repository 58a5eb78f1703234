"""Examples with gold and predicted values, from rows in memory or JSON Lines.

A row is `{"raw": text, "gold": VALUES, "pred": VALUES}`; other keys are ignored. VALUES is a list of spans, each
`{"tag", "start", "end"}` or `[start, end, tag]` (offsets in code points, `end` exclusive), or a mapping from tags to a
value, a list of values, or null.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from reprlib import Repr
from typing import Any, TypeVar

from pytest_smoke.errors import ExamplesError
from pytest_smoke.ner.trim import check_span, trim_span

_Row = TypeVar("_Row")
_short = Repr()
_short.maxstring = _short.maxother = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """A tagged value of a text."""

    tag: str
    value: str
    span: tuple[int, int] | None = None
    """Start and end (exclusive) in code points; None if only the value is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A text with its gold and its predicted values."""

    raw: str
    gold: tuple[Entity, ...]
    pred: tuple[Entity, ...]
    place: str
    """Where it comes from: `FILE:LINE`, or `example 3`."""


def read_lines(lines: Iterable[bytes], source: str) -> list[Example]:
    """Read the lines of a JSON Lines file in UTF-8, except blank ones. Raises ExamplesError with all faulty lines."""
    return _read_all(
        ((f"{source}:{at}", line) for at, line in enumerate(lines, 1) if line.strip() not in (b"", b"\xef\xbb\xbf")),
        lambda place, line: example_of(_parse(line), place),
        if_empty=f"{source}: the file has no examples; allowed: one JSON object per line",
    )


def read_rows(rows: Iterable[Mapping[str, Any]]) -> list[Example]:
    """Read rows in memory. Raises ExamplesError with all faulty rows."""
    return _read_all(
        ((f"example {at}", row) for at, row in enumerate(rows, 1)), lambda place, row: example_of(row, place)
    )


def example_of(row: object, place: str) -> Example:
    """Read one row. Raises ValueError with the offending value and what is allowed."""
    if not isinstance(row, Mapping):
        raise ValueError(f"{_short.repr(row)} is not an object; allowed: an object with raw, gold and pred")
    if missing := [key for key in ("raw", "gold", "pred") if key not in row]:
        keys = ", ".join(repr(key) for key in row) or "none"
        raise ValueError(f"the key {missing[0]!r} is missing; keys: {keys}; raw, gold and pred are required")
    raw = row["raw"]
    if not isinstance(raw, str):
        raise ValueError(f"raw is {_short.repr(raw)}; allowed: a string")
    return Example(
        raw=raw, gold=_entities(raw, "gold", row["gold"]), pred=_entities(raw, "pred", row["pred"]), place=place
    )


def trim_predictions(example: Example, *, keep_full_stop: bool = False) -> Example:
    """Trim the predictions of an example; predictions without letters and numbers are dropped."""
    trimmed = (_trim(example.raw, entity, keep_full_stop) for entity in example.pred)
    return replace(example, pred=tuple(entity for entity in trimmed if entity is not None))


def _trim(raw: str, entity: Entity, keep_full_stop: bool) -> Entity | None:
    text, (start, end) = (raw, entity.span) if entity.span else (entity.value, (0, len(entity.value)))
    if (trimmed := trim_span(text, start, end, keep_full_stop=keep_full_stop)) is None:
        return None
    return replace(entity, value=trimmed[2], span=trimmed[:2] if entity.span else None)


def _read_all(
    rows: Iterable[tuple[str, _Row]], read: Callable[[str, _Row], Example], if_empty: str = ""
) -> list[Example]:
    examples, faults = [], []
    for place, row in rows:
        try:
            examples.append(read(place, row))
        except json.JSONDecodeError as error:  # of one line, which `place` names
            faults.append(f"{place}:{error.colno}: not valid JSON ({error.msg})")
        except ValueError as error:
            faults.append(f"{place}: {error}")
    if if_empty and not examples and not faults:
        faults.append(if_empty)
    if faults:
        raise ExamplesError(faults)
    return examples


def _parse(line: bytes) -> object:
    try:
        text = line.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {line[error.start : error.start + 1]!r} is not UTF-8; allowed: JSON in UTF-8") from None
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError(
            f"{_short.repr(text)} is nested too deeply; allowed: an object with raw, gold and pred"
        ) from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        if "integer string conversion" not in str(error):
            raise
        raise ValueError("a number has thousands of digits; allowed: whole numbers of code points") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"the key {twice!r} is given twice; give several values of a tag as a list")
    return tree


def _entities(raw: str, side: str, given: object) -> tuple[Entity, ...]:
    if isinstance(given, Mapping):
        return tuple(_valued(side, tag, value) for tag, values in given.items() for value in _values(side, tag, values))
    if isinstance(given, list | tuple):
        return tuple(_spanned(raw, f"{side}[{at}]", span) for at, span in enumerate(given))
    allowed = "a list of spans, or an object with the values of each tag"
    raise ValueError(f"{side} is {_short.repr(given)}; allowed: {allowed}")


def _values(side: str, tag: object, values: object) -> list[object]:
    if values is None or (isinstance(values, str) and not values.strip()):
        return []
    return list(values) if isinstance(values, list | tuple) else [values]


def _valued(side: str, tag: object, value: object) -> Entity:
    if not isinstance(value, str) or not value.strip():
        problem = f"{side}[{_short.repr(tag)}] is {_short.repr(value)}"
        raise ValueError(f"{problem}; allowed: a string, a list of strings, or null")
    return Entity(tag=_tag(side, tag), value=value)


def _spanned(raw: str, place: str, span: object) -> Entity:
    if isinstance(span, Mapping) and {"tag", "start", "end"} <= set(span):
        start, end, tag = span["start"], span["end"], span["tag"]
    elif isinstance(span, list | tuple) and len(span) == 3:
        start, end, tag = span
    else:
        raise ValueError(
            f'{place} is {_short.repr(span)}; allowed: {{"tag": ..., "start": ..., "end": ...}} or [start, end, tag]'
        )
    for name, offset in (("start", start), ("end", end)):
        if not isinstance(offset, int) or isinstance(offset, bool):
            raise ValueError(f"{place}: {name} is {_short.repr(offset)}; allowed: a whole number of code points")
    try:
        check_span(raw, start, end)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    return Entity(tag=_tag(place, tag), value=raw[start:end], span=(start, end))


def _tag(place: str, tag: object) -> str:
    if not isinstance(tag, str) or not tag:
        problem = "tag is empty" if tag == "" else f"tag is {_short.repr(tag)}"
        raise ValueError(f"{place}: {problem}; allowed: a string that is not empty")
    return tag
