"""What to say of a window that ended without an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from pytest_smoke.judge.curve import messages as words
from pytest_smoke.judge.curve.curve_verdict import Verdict
from pytest_smoke.judge.curve.evidence import Evidence
from pytest_smoke.judge.curve.rise_confirmation import RejectedRise
from pytest_smoke.judge.curve.trend import Bound, Trend

FEWEST_BLOCKS_JUDGED = 16
"""Blocks below which noise and trough are one guess: the run is too short."""
HOPELESS = 1e3
"""Noise so many times too large has no useful advice: a million times the points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalVerdict:
    """A verdict before its figures are added."""

    verdict: Verdict
    reason: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A whole window, calm to its end."""

    points: int
    evidence: Evidence
    trend: Trend
    probe: Trend | None
    from_scratch: bool
    edges: int
    """Declared edges passed: levels started anew there, and no fall over the whole window can be told."""
    rejected_rises: Sequence[RejectedRise]
    """Rises of the loss that the probe batch did not share; levels started anew there too."""

    def close(self) -> FinalVerdict:
        """The first that holds: off the peak learning rate, too short, too noisy, no progress; or a promotion."""
        return self._masked() or self._blind() or self._sideways() or self._promoted()

    def bound(self) -> Bound | None:
        """The smallest lasting rise that would have been seen, in the series that shows it best."""
        bounds = [self.trend.bound()]
        if self.probe is not None and self.probe.blocks >= FEWEST_BLOCKS_JUDGED:
            bounds.append(self.probe.bound())
        return min((bound for bound in bounds if bound), key=lambda bound: bound.excess, default=None)

    def _masked(self) -> FinalVerdict | None:
        evidence = self.evidence
        if not evidence.seen or (evidence.end is not None and evidence.steps >= evidence.needed):
            return None
        return FinalVerdict(verdict="invalid", reason="masked", text=words.masked(evidence))

    def _blind(self) -> FinalVerdict | None:
        """Too short or too noisy: a lasting rise by a tenth would not have been seen, in the loss or in the probe."""
        trend = self.trend
        if trend.blocks < FEWEST_BLOCKS_JUDGED:
            needed = self.points - trend.pending + (FEWEST_BLOCKS_JUDGED - trend.blocks) * trend.block_points
            text = words.too_short(self.points, needed)
            return FinalVerdict(verdict="inconclusive", reason="too-short", text=text, data={"points_needed": needed})
        bound = self.bound()
        if bound is None or bound.excess <= 1:
            return None
        # Noise of a mean falls with the root of the points.
        enough = ceil(self.points * bound.excess**2) if bound.excess < HOPELESS else None
        text = words.too_noisy(self.points, enough, bound)
        return FinalVerdict(verdict="inconclusive", reason="too-noisy", text=text, data={"points_needed": enough})

    def _sideways(self) -> FinalVerdict | None:
        first, _, fell = self.trend.fall()
        if fell or self.edges or self.rejected_rises or (self.probe is not None and self.probe.fall()[2]):
            return None
        verdict: Verdict = "inconclusive" if self.from_scratch else "promote"
        return FinalVerdict(verdict=verdict, reason="no-progress", text=words.sideways(first))

    def _promoted(self) -> FinalVerdict:
        first, low, _ = self.trend.fall()
        bound = self.bound()
        assert bound is not None  # 16 blocks have one
        if self.rejected_rises:
            text = words.rejected(self.points, self.rejected_rises, bound)
        else:
            text = words.promoted(self.points, first, low, bound)
        return FinalVerdict(verdict="promote", reason="", text=text)
