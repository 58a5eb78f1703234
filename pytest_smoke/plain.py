"""Plain values: what a task or a plugin returned, as builtins that every process, file and terminal accepts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set
from dataclasses import fields, is_dataclass
from functools import cache
from operator import attrgetter, index, is_
from typing import Any, TypeVar

TEXT_CHARS = 10_000
"""Longest text that is kept whole: a screen has about 4,000 characters. Of a longer one the two ends are kept."""
MESSAGE_CHARS = 2_000
"""Longest message of an exception that is kept whole: half a screen."""
KEY_CHARS = 1_000
"""Longest name of a loss term, a metric or another key that is kept whole: five lines of a wide terminal. A metric's
name is in an outcome several times."""
MAX_DEPTH = 12
"""Containers inside each other, at most; what is deeper, or contains itself, becomes text."""
MAX_INT = 2**63
"""From this size on an integer becomes a float: JSON readers, and C, have 64 bits for an integer."""
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and newline: terminals obey them, XML forbids them
    "\u2028\u2029\u202a-\u202e\u2066-\u2069"  # line separators, and controls that reverse what a line shows
    "\ud800-\udfff\ufffe\uffff]"  # surrogates, which UTF-8 cannot encode, and what XML forbids
)
_SAFE_ASCII = bytes((*range(32, 127), *b"\t\n"))
"""ASCII that `_UNSAFE` does not match."""
_UNSAFE_IN_NAMES = re.compile(f"{_UNSAFE.pattern[:-1]}\t\n]")
T = TypeVar("T")


def plain(value: Any, *, depth: int = 0) -> Any:
    """Return `value` as builtins: None, bool, int, float, str, and dicts, lists and tuples of them.

    Subclasses become their builtin (an enum that is a `str` its text, a NumPy float a float), keys become text, and
    everything else becomes its `repr`. Text can be encoded as UTF-8, has no control characters, and is bounded.
    """
    kind = type(value)
    if kind is str:
        return value if len(value) <= TEXT_CHARS and value.isascii() and value.isprintable() else plain_text(value)
    if value is None or kind is bool or kind is float:
        return value
    if kind is dict:
        return _plain_dict(value, depth) if depth < MAX_DEPTH else safe_repr(value)
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, int):
        number = int.__int__(value)
        return number if -MAX_INT <= number < MAX_INT else _as_float(number)
    if isinstance(value, float):
        return float.__float__(value)
    if depth >= MAX_DEPTH:
        return safe_repr(value)
    if isinstance(value, Mapping):
        return _plain_dict(value, depth)
    if isinstance(value, tuple):
        parts = tuple(plain(part, depth=depth + 1) for part in value)
        return value if kind is tuple and all(map(is_, parts, value)) else parts
    if isinstance(value, list | Set):
        return [plain(part, depth=depth + 1) for part in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), depth=depth + 1) for field in fields(value)}
    return _plain_number(value)


def plain_fields(record: T) -> T:
    """Return a dataclass of the same type whose fields are plain."""
    values = {field.name: plain(getattr(record, field.name)) for field in fields(record)}  # type: ignore[arg-type]  # a dataclass
    return type(record)(**values)


def plain_record(record: T) -> T:
    """Return a dataclass of the same type whose values are plain, but for dataclasses in its fields and in tuples.

    These become plain in the same way. One that is plain already is returned as it is.
    """
    changed: dict[str, Any] = {}
    record_type: Any = type(record)
    names, values_of = _reading(record_type)
    values = values_of(record)
    for name, value in zip(names, values, strict=True):
        kind = type(value)
        if value is None or kind is bool or kind is float or (kind is dict and not value):
            continue
        if kind is tuple and value and is_dataclass(value[0]):
            parts = tuple(map(plain_record, value))
            part: Any = value if all(map(is_, parts, value)) else parts
        elif kind in _BUILTINS or not is_dataclass(value):
            part = _same_or_plain_dict(value) if kind is dict else plain(value)
        else:
            part = plain_record(value)
        if part is not value:
            changed[name] = part
    return record_type(**dict(zip(names, values, strict=True)) | changed) if changed else record


_BUILTINS = frozenset({str, int, dict, list, tuple})


@cache
def _reading(kind: Any) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """Return the names of a dataclass's fields, and what reads their values."""
    names = tuple(field.name for field in fields(kind))
    read = attrgetter(*names)
    return names, read if len(names) > 1 else lambda record: (read(record),)


def plain_text(text: str, *, limit: int = TEXT_CHARS) -> str:
    """Return an exact `str` that can be encoded as UTF-8, without control characters; the ends of a very long one.

    What is unsafe is escaped as in Python's source (`x1b` after a backslash). Tabs and newlines stay.
    """
    if type(text) is str and len(text) <= limit and text.isascii() and text.isprintable():  # nearly every text
        return text
    exact = str.__str__(text)
    if len(exact) > limit:
        half = limit // 2
        exact = f"{exact[:half]} [... {len(exact) - 2 * half:,} characters left out ...] {exact[-half:]}"
    if exact.isascii() and not exact.encode("ascii").translate(None, _SAFE_ASCII):
        return exact
    return _UNSAFE.sub(_escaped, exact.replace("\r\n", "\n"))


def plain_name(text: str, *, limit: int = TEXT_CHARS) -> str:
    """Return a name as `plain_text` does, on one line."""
    if type(text) is str and len(text) <= limit and text.isascii() and text.isprintable():  # nearly every name
        return text
    shown = plain_text(text, limit=limit)
    return shown if shown.isascii() and shown.isprintable() else _UNSAFE_IN_NAMES.sub(_escaped, shown)


def exception_text(error: BaseException) -> str:
    """Format an exception: `RuntimeError: the labels file is empty`; its type alone if it has no printable message."""
    try:
        message = str(error)
    except KeyboardInterrupt:  # Ctrl-C
        raise
    except BaseException as unprintable:  # of the exception's own __str__
        message = f"(its message cannot be shown: {type(unprintable).__name__})"
    return plain_text(f"{type(error).__name__}: {message}".removesuffix(": "), limit=MESSAGE_CHARS)


def safe_repr(value: object) -> str:
    """Return a bounded `repr`, also of a value whose own one fails."""
    try:
        return plain_text(repr(value), limit=MESSAGE_CHARS)
    except KeyboardInterrupt:  # Ctrl-C
        raise
    except BaseException as unprintable:  # of the value's own __repr__
        return f"<{type(value).__name__}: its repr raised {type(unprintable).__name__}>"


def _plain_dict(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, part in value.items():
        name = plain_name(key if isinstance(key, str) else _key_text(key), limit=KEY_CHARS)
        while name in found:  # two keys that differ only in what was escaped or cut
            name += "'"
        found[name] = plain(part, depth=depth + 1)
    return found


def _same_or_plain_dict(value: dict[Any, Any]) -> dict[str, Any]:
    """Return the dict itself if it is plain already and holds no list or dict, as most do."""
    found = _plain_dict(value, 0)
    return value if all(map(is_, found, value)) and all(map(is_, found.values(), value.values())) else found


def _key_text(key: object) -> str:
    try:
        return str(key)
    except Exception:  # of the key's own __str__
        return safe_repr(key)


def _plain_number(value: Any) -> Any:
    """Return a number of another library (NumPy, torch) as a builtin; the `repr` of everything else."""
    for convert in (lambda scalar: scalar.item(), index, float):
        try:
            number = convert(value)
        except Exception:  # of the value's own conversion: the next one is tried
            continue
        if isinstance(number, int | float):
            return plain(number)
    return safe_repr(value)


def _as_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
