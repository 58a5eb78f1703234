"""The BIO labels, and the conversion between labelled tokens and character spans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

TAGS = ("house_number", "street", "unit", "postcode", "city", "region", "country")
LABELS = ("O", *(f"{prefix}-{tag}" for tag in TAGS for prefix in "BI"))
INDEX = {label: index for index, label in enumerate(LABELS)}


Offsets = tuple[int, int]
"""(start, end) of `text[start:end]`, in characters."""


class Span(NamedTuple):
    """A part of a text: `text[start:end]` is a `tag`."""

    tag: str
    start: int
    end: int


def may_follow(before: str, after: str) -> bool:
    """Tell whether one label may follow another: I-x only follows B-x or I-x, all others follow anything."""
    return not after.startswith("I-") or before in (f"B-{after[2:]}", after)


def may_start(label: str) -> bool:
    """Tell whether a sequence may start with the label: any but I-x."""
    return not label.startswith("I-")


def encode(spans: Sequence[Span], tokens: Sequence[Offsets]) -> list[int]:
    """Return the label of each token: that of the span that it overlaps. Spans are in order and share no token."""
    labels, begun = [], None
    waiting = iter(spans)
    span = next(waiting, None)
    for start, end in tokens:
        while span and span.end <= start:
            span = next(waiting, None)
        if span is None or span.start >= end:
            labels.append(INDEX["O"])
            continue
        labels.append(INDEX[f"{'I' if span is begun else 'B'}-{span.tag}"])
        begun = span
    return labels


def decode(labels: Iterable[int], tokens: Sequence[Offsets]) -> Iterator[Span]:
    """Yield the spans of a valid label sequence, each from the start of its first token to the end of its last one."""
    open_span: Span | None = None
    for label, (start, end) in zip(labels, tokens, strict=True):
        prefix, _, tag = LABELS[label].partition("-")
        if prefix == "I":
            assert open_span is not None, "a span cannot start with I-, the CRF masks it"
            open_span = open_span._replace(end=end)
            continue
        if open_span:
            yield open_span
        open_span = Span(tag, start, end) if prefix == "B" else None
    if open_span:
        yield open_span
