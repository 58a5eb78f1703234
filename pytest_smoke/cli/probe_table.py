"""How a probe is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from pytest_smoke.judge.gradient_probe import ProbeReading, Spread

PAIRS = 6
"""Pairs that are shown with their ranges; of more, the widest."""


def lines(found: ProbeReading) -> Iterator[str]:
    """Norms by term, ratios and cosines by pair, the matrix of cosines of three terms and more, and what it means."""
    yield from _table(
        ("term", "weight", "raw norm", "range", "weighted", "range"),
        [
            (
                f"{number} {term.name}",
                f"{term.weight:g}",
                _g(term.raw.median),
                _range(term.raw),
                _g(term.weighted.median),
                _range(term.weighted),
            )
            for number, term in enumerate(found.terms, start=1)
        ],
    )
    yield ""
    yield from _table(
        ("ratio", "raw", "range", "weighted", "range", "cosine", "range"),
        [
            (
                f"{pair.stronger}/{pair.weaker}",
                _g(pair.raw.median),
                _range(pair.raw),
                _g(pair.weighted.median),
                _range(pair.weighted),
                _g(pair.cosine.median),
                _range(pair.cosine),
            )
            for pair in found.pairs[:PAIRS]
        ],
    )
    if len(found.pairs) > PAIRS:
        yield f"and {len(found.pairs) - PAIRS} closer pairs (--format json has all)"
    if len(found.terms) > 2:
        yield ""
        yield from _cosines(found)
    yield ""
    yield from found.sentences


def json_tree(found: ProbeReading) -> dict[str, Any]:
    """The same, whole; null for a figure that is finite on no batch."""
    tree: dict[str, Any] = _strict(asdict(found))
    return tree


def _cosines(found: ProbeReading) -> Iterator[str]:
    by_pair = {frozenset((pair.stronger, pair.weaker)): pair.cosine.median for pair in found.pairs}
    names = [term.name for term in found.terms]
    rows = [
        (
            f"{number} {name}",
            *("1" if other == name else _cosine(by_pair[frozenset((name, other))]) for other in names),
        )
        for number, name in enumerate(names, start=1)
    ]
    yield from _table(("cosines", *(str(number) for number in range(1, len(names) + 1))), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        first, *rest = (cell.ljust(width) if n == 0 else cell.rjust(width) for n, (cell, width) in _cells(row, widths))
        yield "  ".join((first, *rest)).rstrip()


def _cells(row: Sequence[str], widths: Sequence[int]) -> Iterator[tuple[int, tuple[str, int]]]:
    return enumerate(zip(row, widths, strict=True))


def _g(value: float) -> str:
    return f"{value:.3g}"


def _cosine(value: float) -> str:
    return f"{value:.2f}"


def _range(spread: Spread) -> str:
    return f"{_g(spread.low)} to {_g(spread.high)}"


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: _strict(part) for key, part in value.items()}
    return [_strict(part) for part in value] if isinstance(value, list | tuple) else value
