"""The verdict on a whole curve in which no instability was detected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from pytest_smoke.judge.curve import messages
from pytest_smoke.judge.curve.confirmation import MIN_SCORES, Burst, RejectedRise
from pytest_smoke.judge.curve.curve_verdict import CurveVerdictWord
from pytest_smoke.judge.curve.evidence import Evidence
from pytest_smoke.judge.curve.trend import DetectionLimit, Fall, Trend, median_of_sorted

MIN_BLOCKS_JUDGED = 16
"""Blocks below which a curve is too short: neither its noise nor its lowest level can be estimated."""
SCRATCH_FALL_SHARE = 0.05
"""Share of its initial level by which the loss of a model from random weights falls if it learns anything: the way to
chance level, by the bias of the last layer alone, is a few per cent long."""
SCRATCH_PROBE_SHARE = 0.005
"""The same for the loss on the probe batch, which has no sampling noise."""
NAMED_BURST_SHARE = 0.10
"""A burst by less than this share of the level is not worth a word."""
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
    initial_loss: float
    """Median of the first losses."""
    initial_score: float | None
    """First loss on the probe batch; None without one."""
    last_scores: Sequence[float]
    """Newest losses on the probe batch."""
    classes: int | None
    """Number of classes or size of the vocabulary, where it is known."""
    jumps_passed: int
    """Expected jumps so far. No fall is compared across them, so with any the curve is not called `no-progress`."""
    rejected_rises: Sequence[RejectedRise]
    """Rises that the probe batch did not share."""
    bursts: Sequence[Burst]
    """Rises that were over soon."""

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
        if evidence.peak is None:
            text = messages.learning_rate_zero(self.points)
            return FinalVerdict(verdict="invalid", reason="learning-rate-zero", text=text)
        if evidence.is_warming_up:
            return FinalVerdict(verdict="inconclusive", reason="warming-up", text=messages.warming_up(evidence))
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
        if self.jumps_passed:
            return None
        fall = self.trend.fall(self.initial_loss)
        if (score := self._score_without_progress()) is not None:
            assert self.initial_score is not None
            text = messages.no_progress_on_probe_batch(self.initial_score, score, self.classes)
        elif self._is_progress(fall) or self._probe_fell():
            return None
        else:
            text = messages.no_progress(fall.initial, fall.lowest, self.classes)
        verdict: CurveVerdictWord = "inconclusive" if self.from_scratch else "promote"
        return FinalVerdict(verdict=verdict, reason="no-progress", text=text)

    def _is_progress(self, fall: Fall) -> bool:
        """Return whether a fall is more than noise and, from random weights, more than the way to chance level."""
        if not self.from_scratch:
            return fall.is_significant
        at_chance = self.classes is not None and messages.is_chance_level(fall.lowest, self.classes)
        return fall.is_significant and fall.share > SCRATCH_FALL_SHARE and not at_chance

    def _probe_fell(self) -> bool:
        return self.probe_trend is not None and self._is_progress(self.probe_trend.fall())

    def _score_without_progress(self) -> float | None:
        """Return the final loss on the probe batch if it is not below the first one.

        From random weights, a fall by less than `SCRATCH_PROBE_SHARE` is none.
        """
        if self.initial_score is None or len(self.last_scores) < MIN_SCORES:
            return None
        final = median_of_sorted(sorted(self.last_scores))
        margin = SCRATCH_PROBE_SHARE * abs(self.initial_score) if self.from_scratch else 0.0
        return final if final >= self.initial_score - margin else None

    def _promoted(self) -> FinalVerdict:
        limit = self.detection_limit()
        assert limit is not None  # 16 blocks have one
        if self.rejected_rises:
            text = messages.rejected(self.rejected_rises, limit)
        elif bursts := [burst for burst in self.bursts if burst.rise > NAMED_BURST_SHARE * abs(burst.level)]:
            text = messages.recovered(bursts, limit)
        else:
            fall = self.trend.fall()
            text = messages.promoted(self.points, fall.initial, fall.lowest, limit)
        return FinalVerdict(verdict="promote", reason="", text=text)
