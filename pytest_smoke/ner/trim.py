"""Trim spans to letters and numbers: this repairs span boundaries without retraining the tagger."""

from __future__ import annotations

from pytest_smoke.ner.letters import is_letter, is_letter_or_number, is_mark


def trim_boundary(text: str, start: int, end: int, *, keep_full_stop: bool = False) -> tuple[int, int]:
    """Shrink the span `[start, end)` until it starts and ends with a letter or a number.

    Offsets count code points, as Python slices do. Combining marks after a letter or number stay with it. A mark whose
    base is not in the span is trimmed, because a span never grows. `keep_full_stop` keeps one `.` directly after a last
    letter (`St.`), but not after a number. A span without letters and numbers is returned as `(start, start)`; a
    decoder should drop it.

    Raises ValueError if the span is empty, reversed or outside the text.
    """
    check_span(text, start, end)
    first, last = start, end
    while first < last and not is_letter_or_number(text[first]):
        first += 1
    if first == last:
        return start, start
    while not is_letter_or_number(text[base := _base(text, first, last)]):
        last = base
    if keep_full_stop and last < end and text[last] == "." and is_letter(text[base]):
        last += 1
    return first, last


def trim_span(text: str, start: int, end: int, *, keep_full_stop: bool = False) -> tuple[int, int, str] | None:
    """Trim a span as `trim_boundary` does, and return the new offsets with the value; None for a span to drop."""
    first, last = trim_boundary(text, start, end, keep_full_stop=keep_full_stop)
    return (first, last, text[first:last]) if first < last else None


def trim_value(value: str) -> str:
    """Trim a value without its text; empty if it has no letter or number."""
    return value[slice(*trim_boundary(value, 0, len(value)))] if value else ""


def check_span(text: str, start: int, end: int) -> None:
    """Raise ValueError unless 0 <= start < end <= len(text)."""
    if start == end:
        raise ValueError(f"empty span: start and end are both {start}; a span has at least one character")
    if start > end:
        raise ValueError(f"reversed span: start {start} is after end {end}")
    if start < 0 or end > len(text):
        raise ValueError(f"span {start}-{end} is outside the text; offsets go from 0 to {len(text)}")


def _base(text: str, first: int, last: int) -> int:
    """Return the offset of the base character that the marks at the end belong to, or of the last character."""
    at = last - 1
    while at > first and is_mark(text[at]):
        at -= 1
    return at
