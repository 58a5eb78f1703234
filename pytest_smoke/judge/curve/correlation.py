"""Correlation of neighbouring points: averages over a log interval, and text that is read in order, have one.

Every test of the judge counts points. Of an AR(1) process with correlation r, (1 + r) / (1 - r) points are worth one
independent point (the ratio of its long-run variance to its variance).
"""

from __future__ import annotations

from itertools import pairwise

WINDOW_POINTS = 32
"""Points of one estimate: short enough for the trend within it to be a straight line."""
MIN_WINDOWS = 2
"""Estimates before there is a correlation to speak of."""
MAX_CORRELATION = 0.5
"""Beyond it, the points of a window tell correlation neither from a trend nor from the wandering of an unstable run."""


class Correlation:
    """Estimate the lag-1 correlation of a series around its trend, from all its points so far."""

    def __init__(self) -> None:
        self.coefficient = 0.0
        """Lag-1 correlation, between 0 and `MAX_CORRELATION`; 0 until it can be estimated."""
        self.is_ignored = False
        self._window: list[float] = []
        self._windows = 0
        self._sum = 0.0

    def ignore(self) -> None:
        """Take all points for independent from now on."""
        self.is_ignored, self.coefficient = True, 0.0

    def add(self, value: float) -> None:
        """Add one point."""
        if self.is_ignored:
            return
        window = self._window
        window.append(value)
        if len(window) < WINDOW_POINTS:
            return
        self._sum += lag_one_correlation(window)
        self._windows += 1
        window.clear()
        if self._windows >= MIN_WINDOWS:
            self.coefficient = min(max(self._sum / self._windows, 0.0), MAX_CORRELATION)

    @property
    def points_per_independent(self) -> float:
        """Number of points that are worth one independent point, at least 1."""
        return (1 + self.coefficient) / (1 - self.coefficient)

    @property
    def inflation(self) -> float:
        """Long-run variance over half the mean squared difference of neighbours: (1 + r) / (1 - r)^2."""
        return (1 + self.coefficient) / (1 - self.coefficient) ** 2

    def start_segment(self) -> None:
        """Forget the open window: the level changes here."""
        self._window.clear()


def lag_one_correlation(values: list[float]) -> float:
    """Estimate the lag-1 correlation of values around a straight line; 0 if they lie on it.

    Around a fitted line, the estimate of n values is about (2 + 4 r) / n too small (twice the bias around a mean:
    Kendall 1954), which is corrected.
    """
    n = len(values)
    centre = (n - 1) / 2
    mean = sum(values) / n
    slope = sum([(at - centre) * value for at, value in enumerate(values)]) * 12 / (n * (n * n - 1))
    rest = [value - mean - slope * (at - centre) for at, value in enumerate(values)]
    bound = 3 * sorted([abs(value) for value in rest])[n // 2]
    clipped = [min(max(value, -bound), bound) for value in rest]
    square = sum([value * value for value in clipped])
    if square <= 1e-20 * n * mean * mean:
        return 0.0
    r = sum([a * b for a, b in pairwise(clipped)]) / square
    return (r + 2 / n) / (1 - 4 / n)
