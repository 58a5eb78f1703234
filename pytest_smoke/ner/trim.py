"""Spans shrunk to the letters and numbers they hold: a tagger's slip at a comma is mended without retraining."""

from __future__ import annotations

from pytest_smoke.ner.letters import is_letter, is_letter_or_number, is_mark


def trim_boundary(text: str, start: int, end: int, *, keep_full_stop: bool = False) -> tuple[int, int]:
    """`[start, end)` without its leading and trailing characters that are neither letter nor number.

    Offsets count code points, as Python slices do. A combining mark behind a letter or number, directly or through
    other marks, stays with it; a mark whose base is not in the span is trimmed: a span never grows to fetch the base,
    and half a character is no part of a value. `keep_full_stop` keeps one `.` directly behind a last letter (`St.`),
    not behind a number. A span that trims to nothing is returned as `(start, start)`; a decoder drops it.

    Raises ValueError for a span that is empty, reversed or not inside the text.
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
    """`trim_boundary` for a decoder: the new offsets and the value between them, None for a span to drop.

    Raises ValueError as `trim_boundary` does.
    """
    first, last = trim_boundary(text, start, end, keep_full_stop=keep_full_stop)
    return (first, last, text[first:last]) if first < last else None


def trimmed(value: str) -> str:
    """A value alone, trimmed; empty if it holds no letter or number."""
    return value[slice(*trim_boundary(value, 0, len(value)))] if value else ""


def check_span(text: str, start: int, end: int) -> None:
    """Raises ValueError unless 0 <= start < end <= len(text)."""
    if start == end:
        raise ValueError(f"empty span: start and end are both {start}; a span holds at least one character")
    if start > end:
        raise ValueError(f"reversed span: start {start} is after end {end}")
    if start < 0 or end > len(text):
        raise ValueError(f"span {start}-{end} is not inside the text; offsets go from 0 to {len(text)}, its length")


def _base(text: str, first: int, last: int) -> int:
    """Where the character is that the last one belongs to: itself, or what the marks at the end follow."""
    at = last - 1
    while at > first and is_mark(text[at]):
        at -= 1
    return at
