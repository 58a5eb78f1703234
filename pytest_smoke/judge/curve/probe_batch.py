"""The loss on the fixed probe batch, as a series of its own: it has no sampling noise."""

from __future__ import annotations

from pytest_smoke.judge.curve.trend import MinimumRise, Rise, Trend

BLOCKS = 400
"""A fixed batch has no sampling noise, so each score is a block of its own until there are more than 400."""
SPANS = (3, 6, 12, 24)
"""Lengths of the spans in scores; single scores rise above the rest in healthy runs too ..."""
LASTING_BLOCKS = 2
"""... and one score alone, however high, is not a rise."""
MIN_SIGMAS = 5.0
"""The remaining noise of a fixed batch is slow wandering, which differences of neighbours underestimate."""
MINIMUM_RISE = MinimumRise(level=0.10, progress=0.05)
"""Five times that of the training loss: the probe loss of a healthy run wanders by a few times the latter."""


class ProbeTrend:
    """A trend of the probe loss; it starts at the second score, which shows how often the batch is scored."""

    def __init__(self, planned_points: int) -> None:
        self.trend: Trend | None = None
        """None before the second score."""
        self._planned_points = planned_points
        self._first_score: tuple[int, int, float] | None = None

    def add(self, point: int, step: int, probe_loss: float) -> Rise | None:
        """Add the score at the curve's `point`-th point, counted from 1."""
        if self._first_score is None:
            self._first_score = (point, step, probe_loss)
            return None
        if self.trend is None:
            first_point, first_step, first_loss = self._first_score
            self.trend = Trend(
                max(1, self._planned_points // (point - first_point)),
                blocks=BLOCKS,
                min_block_points=1,
                spans=SPANS,
                minimum_rise=MINIMUM_RISE,
                min_sigmas=MIN_SIGMAS,
                lasting_blocks=LASTING_BLOCKS,
                removes_drift=False,
            )
            self.trend.add(first_step, first_loss)
        return self.trend.add(step, probe_loss)

    def start_segment(self, last_step: int) -> Rise | None:
        """Compare no levels across the end of `last_step`; return the rise that the ended segment still shows."""
        if self.trend is None:
            self._first_score = None  # a single score may belong to another probe batch
            return None
        return self.trend.start_segment(last_step)
