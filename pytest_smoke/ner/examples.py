"""Examples with their gold and predicted values, from rows in memory or lines of JSON.

A row is `{"raw": text, "gold": VALUES, "pred": VALUES}`, other keys ignored. VALUES is a list of spans, each
`{"tag", "start", "end"}` or `[start, end, tag]` (offsets in code points, `end` exclusive), or a mapping of tags, each
to a value, a list of values, or null.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from reprlib import Repr
from typing import Any, TypeVar

from pytest_smoke.errors import ExamplesError
from pytest_smoke.ner.trim import check_span, trim_span

_Row = TypeVar("_Row")
_SHOWN = 10
"""Faults that are told; the rest are counted."""
_short = Repr()
_short.maxstring = _short.maxother = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """A tagged value of a text."""

    tag: str
    value: str
    span: tuple[int, int] | None = None
    """First code point and the one after the last; None where only the value is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A text, what it holds, and what a tagger found."""

    raw: str
    gold: tuple[Entity, ...]
    pred: tuple[Entity, ...]
    place: str
    """`FILE:LINE`, or `example 3`."""


def read_lines(lines: Iterable[bytes], source: str) -> list[Example]:
    """The examples of a JSON Lines file, UTF-8; blank lines are none. Raises `ExamplesError` for all faulty lines."""
    return _gathered(
        ((f"{source}:{at}", line) for at, line in enumerate(lines, 1) if line.strip() not in (b"", b"\xef\xbb\xbf")),
        lambda place, line: example_of(_row(line), place),
        nothing=f"{source}: no examples; allowed: one JSON object a line",
    )


def read_rows(rows: Iterable[Mapping[str, Any]]) -> list[Example]:
    """The examples of rows in memory. Raises `ExamplesError` for all faulty rows."""
    return _gathered(
        ((f"example {at}", row) for at, row in enumerate(rows, 1)), lambda place, row: example_of(row, place)
    )


def example_of(row: object, place: str) -> Example:
    """One row, read. Raises ValueError with the offending value and what is allowed."""
    if not isinstance(row, Mapping):
        raise ValueError(f"{_short.repr(row)} is no object; allowed: an object with raw, gold and pred")
    if missing := [key for key in ("raw", "gold", "pred") if key not in row]:
        keys = ", ".join(repr(key) for key in row) or "none"
        raise ValueError(f"no {missing[0]!r} among its keys ({keys}); raw, gold and pred are needed")
    raw = row["raw"]
    if not isinstance(raw, str):
        raise ValueError(f"raw is {_short.repr(raw)}; allowed: the text, a string")
    return Example(
        raw=raw, gold=_entities(raw, "gold", row["gold"]), pred=_entities(raw, "pred", row["pred"]), place=place
    )


def trim_predictions(example: Example, *, keep_full_stop: bool = False) -> Example:
    """The example as a decoder that trims would have predicted it: what trims to nothing is dropped."""
    kept = (_trimmed(example.raw, entity, keep_full_stop) for entity in example.pred)
    return replace(example, pred=tuple(entity for entity in kept if entity is not None))


def _trimmed(raw: str, entity: Entity, keep_full_stop: bool) -> Entity | None:
    text, (start, end) = (raw, entity.span) if entity.span else (entity.value, (0, len(entity.value)))
    if (kept := trim_span(text, start, end, keep_full_stop=keep_full_stop)) is None:
        return None
    return replace(entity, value=kept[2], span=kept[:2] if entity.span else None)


def _gathered(
    rows: Iterable[tuple[str, _Row]], read: Callable[[str, _Row], Example], nothing: str = ""
) -> list[Example]:
    examples, faults = [], []
    for place, row in rows:
        try:
            examples.append(read(place, row))
        except ValueError as error:
            faults.append(f"{place}: {error}")
    if nothing and not examples and not faults:
        faults.append(nothing)
    if faults:
        raise ExamplesError(faults)
    return examples


def _row(line: bytes) -> object:
    try:
        text = line.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {line[error.start : error.start + 1]!r} is no UTF-8; allowed: JSON in UTF-8") from None
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        near = _short.repr(text[error.pos :])
        raise ValueError(f"no JSON at column {error.colno}, {near}: {error.msg}; allowed: one object a line") from None
    except RecursionError:
        raise ValueError(
            f"{_short.repr(text)} is nested too deep; allowed: an object with raw, gold and pred"
        ) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice; a tag with several values takes a list of them")
    return found


def _entities(raw: str, side: str, given: object) -> tuple[Entity, ...]:
    if isinstance(given, Mapping):
        return tuple(_valued(side, tag, value) for tag, values in given.items() for value in _values(side, tag, values))
    if isinstance(given, list | tuple):
        return tuple(_spanned(raw, f"{side}[{at}]", span) for at, span in enumerate(given))
    raise ValueError(f"{side} is {_short.repr(given)}; allowed: a list of spans, or an object of tags and values")


def _values(side: str, tag: object, values: object) -> list[object]:
    if values is None or (isinstance(values, str) and not values.strip()):
        return []
    return list(values) if isinstance(values, list | tuple) else [values]


def _valued(side: str, tag: object, value: object) -> Entity:
    if not isinstance(value, str) or not value.strip():
        found = f"{side}[{_short.repr(tag)}] is {_short.repr(value)}"
        raise ValueError(f"{found}; allowed: a value that is a string, a list of such, or null")
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
        raise ValueError(f"{place}: tag is {_short.repr(tag)}; allowed: a name, a string that is not empty")
    return tag
