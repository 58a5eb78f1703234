"""A curve as one line of block characters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BARS = "▁▂▃▄▅▆▇█"
BROKEN = "x"
"""Bar of a block with a value that is not finite."""


def sparkline(values: Sequence[float], *, width: int = 60) -> str:
    """Draw the means of at most `width` blocks of `values`, scaled from the lowest to the highest."""
    if not values:
        return ""
    blocks = _blocks(values, min(width, len(values)))
    finite = [block for block in blocks if math.isfinite(block)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    return "".join(_bar(block, low, high) for block in blocks)


def _bar(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return BROKEN
    if high <= low:
        return BARS[0]
    # Halved first, because high - low may overflow.
    share = (value / 2 - low / 2) / (high / 2 - low / 2)
    return BARS[min(len(BARS) - 1, int(share * len(BARS)))]


def _blocks(values: Sequence[float], count: int) -> list[float]:
    edges = [len(values) * i // count for i in range(count + 1)]
    return [
        math.fsum(value / len(part) for value in part) if all(map(math.isfinite, part)) else math.nan
        for part in (values[a:b] for a, b in pairwise(edges))
    ]
