"""The loss of the fixed probe batch as a series of its own."""

from __future__ import annotations

from pytest_smoke.judge.curve.trend import Gate, Rise, Trend

BLOCKS = 400
"""A probe batch has no sampling noise: every point is a block until there are more than 400."""
SPANS = (3, 6, 12, 24)
"""Probe points averaged: single ones rise above the rest in healthy runs too ..."""
LASTING = 2
"""... so that one point alone, however high, raises no alarm."""
SIGMAS = 5.0
"""What is left of a fixed batch's noise wanders: differences of neighbours understate it."""
GATE = Gate(level=0.10, progress=0.05, doubled=0.05)
"""Five times the gate of the loss: the slice of a healthy run wanders by some gates of its own."""


class ProbeTrend:
    """A trend whose length is known once two scores show how often the batch is scored."""

    def __init__(self, planned_points: int) -> None:
        self.trend: Trend | None = None
        """None before the second score."""
        self._planned = planned_points
        self._first: tuple[int, int, float] | None = None

    def add(self, point: int, step: int, probe_loss: float) -> Rise | None:
        """The score at the window's `point`-th point, counted from 1."""
        if self._first is None:
            self._first = (point, step, probe_loss)
            return None
        if self.trend is None:
            first_point, first_step, first_loss = self._first
            self.trend = Trend(
                max(1, self._planned // (point - first_point)),
                blocks=BLOCKS,
                min_points=1,
                spans=SPANS,
                gate=GATE,
                sigmas=SIGMAS,
                lasting=LASTING,
            )
            self.trend.add(first_step, first_loss)
        return self.trend.add(step, probe_loss)

    def edge(self, step: int) -> Rise | None:
        """`step` is the last one before levels change; what the segment that ends here still shows."""
        if self.trend is None:
            self._first = None  # a score that stands alone is of another batch, perhaps
            return None
        return self.trend.edge(step)
