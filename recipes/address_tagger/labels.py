"""The BIO label set, and the way between labelled tokens and spans of characters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

TAGS = ("house_number", "street", "unit", "postcode", "city", "region", "country")
LABELS = ("O", *(f"{prefix}-{tag}" for tag in TAGS for prefix in "BI"))
INDEX = {label: index for index, label in enumerate(LABELS)}


Offsets = tuple[int, int]
"""(start, end) of `text[start:end]`, in characters."""


class Span(NamedTuple):
    """`text[start:end]` is a `tag`."""

    tag: str
    start: int
    end: int


def may_follow(before: str, after: str) -> bool:
    """I-x stands after B-x or I-x alone; everything else may stand anywhere."""
    return not after.startswith("I-") or before in (f"B-{after[2:]}", after)


def may_start(label: str) -> bool:
    """No sequence starts inside a span."""
    return not label.startswith("I-")


def encode(spans: Sequence[Span], tokens: Sequence[Offsets]) -> list[int]:
    """The label of each token: that of the span it overlaps. Spans come in order and share no token."""
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
    """The spans of a valid label sequence, from the start of the first token to the end of the last."""
    open_span: Span | None = None
    for label, (start, end) in zip(labels, tokens, strict=True):
        prefix, _, tag = LABELS[label].partition("-")
        if prefix == "I":
            assert open_span is not None, "I- starts no span: the CRF's mask forbids it"
            open_span = open_span._replace(end=end)
            continue
        if open_span:
            yield open_span
        open_span = Span(tag, start, end) if prefix == "B" else None
    if open_span:
        yield open_span
