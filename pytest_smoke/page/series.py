"""Series of a plot: fewer points, without hiding anything that a plot of all points would show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from math import fsum, inf, isfinite, isnan
from typing import Any, NamedTuple

BUCKETS = 500
"""Equal parts of a series, of which the extremes are kept: a plot is about 1,000 pixels wide, two per part."""
SMOOTHED_POINTS = 200
"""Points of a smoothed series; each is the mean of `WINDOW_SHARE` of the run, so twice as many would look the same."""
WINDOW_SHARE = 0.02
"""Share of the points in one mean of a smoothed series."""
LINE_SHARE = 0.001
"""Share of its range within which a schedule is drawn as straight lines: a fifth of a pixel in a plot of 180 pixels."""
DIGITS = 5
"""Significant digits of a value in the page: a plot of 1,000 pixels shows three."""


class Series(NamedTuple):
    """Values at rising steps. Values may be NaN or infinite."""

    steps: Sequence[int] = ()
    values: Sequence[float] = ()

    @classmethod
    def of(cls, points: Iterable[tuple[int, float]]) -> Series:
        """Make a series of points."""
        known = list(points)
        return cls([step for step, _ in known], [value for _, value in known])


NOTHING = Series()
"""A series that was not recorded."""


def extremes(values: Sequence[float], buckets: int = BUCKETS) -> list[int]:
    """Return the indices of the points to draw, rising.

    They are the first and the last point, of each of `buckets` equal parts a point with its lowest and one with its
    highest finite value, and the first and the last point of every sequence of equal values that are not finite. Of
    points on a level line only its ends are kept.
    """
    kept = {0, len(values) - 1} if len(values) else set()
    edges = [len(values) * at // buckets for at in range(buckets + 1)]
    for start, end in pairwise(edges):
        part = values[start:end]
        if not part:
            continue
        if not isfinite(sum(part)):  # of finite values it may overflow, and the slower way is taken
            part = [value for value in part if isfinite(value)]
        for value in (min(part), max(part)) if part else ():
            kept.add(values.index(value, start, end))
    kept |= {at for first, last in broken_runs(values) for at in (first, last)}
    return list(_without_level(sorted(kept), values))


def corners(series: Series, share: float = LINE_SHARE) -> list[int]:
    """Return the indices of the points between which straight lines pass all others.

    They pass within `share` of the range of the values, which must be finite. A schedule has few corners, and a jump
    of one step stays one. Swing filter: from each kept point, the slopes that pass all points after it.
    """
    steps, values = series
    if len(values) < 3:
        return list(range(len(values)))
    near = share * (max(values) - min(values))
    kept, start = [0], 0
    low, high = -inf, inf
    for at in range(1, len(values)):
        length, rise = steps[at] - steps[start], values[at] - values[start]
        if not low <= rise / length <= high:
            start = at - 1
            kept.append(start)
            length, rise = steps[at] - steps[start], values[at] - values[start]
            low, high = -inf, inf
        low, high = max(low, (rise - near) / length), min(high, (rise + near) / length)
    return [*kept, len(values) - 1]


def broken_runs(values: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Yield first and last index of each sequence of equal values that are not finite."""
    if isfinite(sum(values)):
        return
    at = 0
    for kind, group in groupby(values, key=kind_of):
        length = sum(1 for _ in group)
        if kind:
            yield at, at + length - 1
        at += length


def smoothed(series: Series) -> tuple[Series, int]:
    """Return means of as many neighbouring points as a second value says; values that are not finite are left out."""
    steps, values = series
    width = max(1, round(len(values) * WINDOW_SHARE))
    if width < 2:
        return Series(), width
    stride = max(1, len(values) // SMOOTHED_POINTS)
    starts = range(0, len(values) - width + 1, stride)
    return Series([steps[at + width // 2] for at in starts], [_mean(values[at : at + width]) for at in starts]), width


def encoded(series: Series, buckets: int = BUCKETS, *, schedule: bool = False) -> dict[str, Any]:
    """Return the points to draw as JSON: `x` has the first step and then differences, `y` rounded values.

    A value that is not finite is null, and `bad` has first step, last step and text of each sequence of them.
    `schedule`: keep the corners of the series instead of its extremes, if it is finite and they are fewer.
    """
    steps, values = series
    kept = extremes(values, buckets)
    if schedule and isfinite(sum(values)) and len(lines := corners(series)) <= max(len(kept), 2 * buckets):
        kept = lines
    drawn = [steps[at] for at in kept]
    found: dict[str, Any] = {
        "x": [*drawn[:1], *(after - before for before, after in pairwise(drawn))],
        "y": [rounded(values[at]) for at in kept],
    }
    bad = [[steps[first], steps[last], kind_of(values[first])] for first, last in broken_runs(values)]
    return found | ({"bad": bad} if bad else {})


def rounded(value: float, digits: int = DIGITS) -> float | int | None:
    """Round to significant digits; None for what is not finite."""
    if not isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def kind_of(value: float) -> str:
    """Return `NaN`, `inf` or `-inf`; empty for a finite value."""
    if isfinite(value):
        return ""
    return "NaN" if isnan(value) else "inf" if value == inf else "-inf"


def _mean(values: Sequence[float]) -> float:
    if not isfinite(sum(values)):
        values = [value for value in values if isfinite(value)]
        return fsum(value / len(values) for value in values) if values else float("nan")
    return sum(values) / len(values)


def _without_level(indices: Iterable[int], values: Sequence[float]) -> Iterator[int]:
    """Leave out points whose neighbours in the plot have the same, finite value."""
    held: list[int] = []
    for at in indices:
        if len(held) == 2 and values[held[0]] == values[held[1]] == values[at] and isfinite(values[at]):
            held[1] = at
            continue
        if len(held) == 2:
            yield held.pop(0)
        held.append(at)
    yield from held
