"""The verdict on a whole curve in which no instability was detected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from pytest_smoke.judge.curve import messages
from pytest_smoke.judge.curve.curve_verdict import CurveVerdictWord
from pytest_smoke.judge.curve.evidence import Evidence
from pytest_smoke.judge.curve.probe_batch import RejectedRise
from pytest_smoke.judge.curve.trend import DetectionLimit, Trend

MIN_BLOCKS_JUDGED = 16
"""Blocks below which a curve is too short: neither its noise nor its lowest level can be estimated."""
MAX_NOISE_RATIO = 1e3
"""Noise this many times too large would need a million times the points: no useful advice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalVerdict:
    """A verdict before the numbers that every verdict has are added."""

    verdict: CurveVerdictWord
    reason: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StableCurve:
    """A curve without any detected instability."""

    points: int
    evidence: Evidence
    trend: Trend
    probe_trend: Trend | None
    from_scratch: bool
    jumps_passed: int
    """Expected jumps so far. No fall is compared across them, so with any the curve is not called `no-progress`."""
    rejected_rises: Sequence[RejectedRise]
    """Rises that the probe batch did not share; no fall is compared across them either."""

    def verdict(self) -> FinalVerdict:
        """Return the first that applies: `masked`, `too-short`, `too-noisy`, `no-progress`; else a promotion."""
        return self._masked() or self._too_short() or self._too_noisy() or self._no_progress() or self._promoted()

    def detection_limit(self) -> DetectionLimit | None:
        """Return the smallest lasting rise that would have been detected, in the series that shows it best."""
        limits = [self.trend.detection_limit()]
        if self.probe_trend is not None and self.probe_trend.block_count >= MIN_BLOCKS_JUDGED:
            limits.append(self.probe_trend.detection_limit())
        return min((limit for limit in limits if limit), key=lambda limit: limit.ratio_to_claim, default=None)

    def _masked(self) -> FinalVerdict | None:
        evidence = self.evidence
        is_enough = evidence.end is not None and evidence.steps >= evidence.needed
        if not evidence.has_learning_rate or is_enough:
            return None
        return FinalVerdict(verdict="invalid", reason="masked", text=messages.masked(evidence))

    def _too_short(self) -> FinalVerdict | None:
        trend = self.trend
        if trend.block_count >= MIN_BLOCKS_JUDGED:
            return None
        missing_blocks = MIN_BLOCKS_JUDGED - trend.block_count
        needed = self.points - trend.open_points + missing_blocks * trend.block_points
        text = messages.too_short(self.points, needed)
        return FinalVerdict(verdict="inconclusive", reason="too-short", text=text, data={"points_needed": needed})

    def _too_noisy(self) -> FinalVerdict | None:
        """Decide `too-noisy`: neither the loss nor the probe loss would have shown a lasting rise by a tenth."""
        limit = self.detection_limit()
        if limit is None or limit.ratio_to_claim <= 1:
            return None
        ratio = limit.ratio_to_claim
        needed = ceil(self.points * ratio**2) if ratio < MAX_NOISE_RATIO else None  # noise of a mean is ~ 1 / sqrt(n)
        text = messages.too_noisy(self.points, needed, limit)
        return FinalVerdict(verdict="inconclusive", reason="too-noisy", text=text, data={"points_needed": needed})

    def _no_progress(self) -> FinalVerdict | None:
        fall, probe = self.trend.fall(), self.probe_trend
        if fall.is_significant or self.jumps_passed or self.rejected_rises:
            return None
        if probe is not None and probe.fall().is_significant:
            return None
        verdict: CurveVerdictWord = "inconclusive" if self.from_scratch else "promote"
        return FinalVerdict(verdict=verdict, reason="no-progress", text=messages.no_progress(fall.first_mean))

    def _promoted(self) -> FinalVerdict:
        limit = self.detection_limit()
        assert limit is not None  # 16 blocks have one
        if self.rejected_rises:
            text = messages.rejected(self.rejected_rises, limit)
        else:
            fall = self.trend.fall()
            text = messages.promoted(self.points, fall.first_mean, fall.lowest_mean, limit)
        return FinalVerdict(verdict="promote", reason="", text=text)
