"""Plain YAML scalars as values. What YAML 1.1 reads otherwise than people write is refused, not guessed."""

from __future__ import annotations

import re
from math import isinf

Scalar = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {"": None, "~": None}
for _word, _value in (("null", None), ("true", True), ("false", False)):
    _WORDS |= dict.fromkeys((_word, _word.capitalize(), _word.upper()), _value)
_SWITCHES = {
    spelling: value
    for word, value in (("yes", True), ("on", True), ("y", True), ("no", False), ("off", False), ("n", False))
    for spelling in (word, word.capitalize(), word.upper())
}
_INFINITIES = {f"{sign}.{word}": float(f"{sign}inf") for sign in ("", "+", "-") for word in ("inf", "Inf", "INF")}
_NANS = {f"{sign}.{word}" for sign in ("", "+", "-") for word in ("nan", "NaN", "NAN")}

_NUMERIC_START = frozenset("0123456789+-.")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_BASED_INT = re.compile(r"[-+]?0(?:x[0-9a-fA-F_]*[0-9a-fA-F]|b[01_]*[01])")
_FLOAT = re.compile(r"(?:[-+]?[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?")
_OCTAL = re.compile(r"[-+]?0o?[0-9_]+")
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?")
_NUMBER_AS_TEXT = re.compile(r"([-+]?)([0-9][0-9_]*)?(?:\.([0-9][0-9_]*)?)?(?:[eE]([-+]?)([0-9]+))?")


class Trap(ValueError):
    """A plain scalar whose reading would surprise; the message names it and says what to write."""


def read_plain(text: str) -> Scalar:
    """The value of a plain (unquoted) scalar.

    Raises Trap for switches (`off`), floats that YAML 1.1 takes for text (`1e-3`), octal, base-60, dates and NaN.
    """
    if text[:1] in _NUMERIC_START and text:
        return _read_numeric(text)
    if text in _WORDS:
        return _WORDS[text]
    if text in _SWITCHES:
        value = "true" if _SWITCHES[text] else "false"
        raise Trap(f"{text} is read as {value} by some YAML readers and as text by others; write {value}, or quote it")
    return text


def _read_numeric(text: str) -> Scalar:
    if _INT.fullmatch(text):
        return _whole(text, 10)
    if _FLOAT.fullmatch(text):
        value = float(text.replace("_", ""))
        if isinf(value):
            raise Trap(f"{text} is too large for a float; the largest is about 1.8e+308, infinity is .inf")
        return value
    if _BASED_INT.fullmatch(text):
        return _whole(text, 0)
    if text in _INFINITIES:
        return _INFINITIES[text]
    _refuse_traps(text)
    return text


def _refuse_traps(text: str) -> None:
    """Raise Trap if `text` looks like a number or a date that YAML readers do not agree about."""
    if text in _NANS:
        raise Trap(f"{text} is equal to nothing, itself included; write a finite number, or null")
    if _OCTAL.fullmatch(text):
        digits = text.replace("_", "").lstrip("+-").lstrip("0o") or "0"
        raise Trap(f"{text} is octal to some YAML readers; write {digits} without leading zeros, or quote it")
    if _BASE_60.fullmatch(text):
        raise Trap(f"{text} is a base-60 number in YAML 1.1; write the number in full, or quote it")
    if _DATE.fullmatch(text):
        raise Trap(f"{text} is a date in YAML; quote it")
    number = _NUMBER_AS_TEXT.fullmatch(text)
    if number and (number[2] or number[3]):
        sign, whole, fraction, exponent_sign, exponent = (part or "" for part in number.groups())
        written = f"{sign}{whole or '0'}.{fraction or '0'}" + (f"e{exponent_sign or '+'}{exponent}" if exponent else "")
        raise Trap(f"{text} is text in YAML 1.1, not a number; write {written.replace('_', '')}, or quote it")


def _whole(text: str, base: int) -> int:
    try:
        return int(text.replace("_", ""), base)
    except ValueError as error:  # Python's limit of 4,300 digits
        raise Trap(f"a whole number of {len(text)} digits is too large") from error
