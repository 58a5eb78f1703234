"""Judge one short training run while it runs: points in, one verdict out."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from pytest_smoke.judge.curve import messages
from pytest_smoke.judge.curve.confirmation import MIN_SCORES, Alarm, CandidateRise, RiseConfirmation
from pytest_smoke.judge.curve.correlation import Correlation
from pytest_smoke.judge.curve.curve_verdict import CurveVerdict
from pytest_smoke.judge.curve.detectors import (
    EARLY_START_POINTS,
    AboveStart,
    AboveStartDetector,
    DivergenceDetector,
    EarlyDivergenceDetector,
    SpikeDetector,
    SwingDetector,
    WorseThanUntrainedDetector,
)
from pytest_smoke.judge.curve.evidence import Evidence
from pytest_smoke.judge.curve.final_verdict import MIN_BLOCKS_JUDGED, FinalVerdict, StableCurve
from pytest_smoke.judge.curve.finite import FiniteCheck, NonFinite
from pytest_smoke.judge.curve.probe_batch import ProbeTrend
from pytest_smoke.judge.curve.step_spacing import StepSpacing
from pytest_smoke.judge.curve.trend import AlarmDistance, Rise, Trend, median_of_sorted
from pytest_smoke.text import count

__all__ = ["CurveJudge", "CurveVerdict"]

FIRST_LOSSES = 3
"""First losses whose median is the initial level, before a step of the optimizer has changed much."""
SPIKE_REFERENCES = (50, 20, 10)
"""Numbers of earlier losses that a spike must exceed: 50 losses of a steep start are above the damage after it."""
EARLY_SHARE = 3
"""A second trend judges the first third as a curve of its own, in blocks a third as long; a third trend the first
ninth, ..."""
MIN_EARLY_POINTS = 48
"""... as long as that part has this many points; shorter parts are left to the main trend."""


class CurveJudge:
    """Judge a run as it trains. The verdict depends on the points alone, not on how they are delivered.

    `planned_points` is the length of the whole run and sets the length of a block. `expected_jumps` are the steps at
    which the data or the loss change by design. `peak_lr` is the peak learning rate, by default the largest one so far.
    `evidence_needed` is the number of steps at 80 % of it or more that a promotion needs, by default half of the run
    and at most 2,500. `from_scratch` makes a run without progress `inconclusive` instead of `promote`. `classes` is the
    number of classes, or the size of the vocabulary: a loss of ln `classes` is chance level. `is_log` tells whether a
    logger may have written a NaN as 0.

    Raises ValueError if `planned_points` is below 1.
    """

    def __init__(
        self,
        *,
        planned_points: int,
        from_scratch: bool = False,
        expected_jumps: Sequence[int] = (),
        peak_lr: float | None = None,
        evidence_needed: int | None = None,
        classes: int | None = None,
        is_log: bool = True,
    ) -> None:
        if planned_points < 1:
            raise ValueError(f"planned_points is {planned_points}, must be at least 1")
        self._planned_points = planned_points
        self._from_scratch = from_scratch
        self._classes = classes
        self._first_losses: list[float] = []
        self._initial_score: float | None = None
        self._last_scores: deque[float] = deque(maxlen=MIN_SCORES)
        self._jumps_ahead = sorted(expected_jumps, reverse=True)
        self._jumps_passed = 0
        self._unstable: CurveVerdict | None = None
        self._points = 0
        self._step = 0
        self._finite = FiniteCheck(zero_is_nan=is_log)
        self._spacing = StepSpacing()
        self._evidence = Evidence(peak_lr, evidence_needed)
        self._spikes = [SpikeDetector(planned_points, points) for points in SPIKE_REFERENCES]
        self._above_start = AboveStartDetector(planned_points)
        self._divergence = DivergenceDetector()
        self._swings = SwingDetector()
        self._early_divergence = EarlyDivergenceDetector()
        self._untrained: WorseThanUntrainedDetector | None = WorseThanUntrainedDetector(planned_points)
        """None after an expected jump."""
        self._correlation = Correlation()
        self._trend = Trend(planned_points, correlation=self._correlation)
        self._early_trends: list[tuple[int, Trend]] = []
        points = planned_points // EARLY_SHARE
        while points >= MIN_EARLY_POINTS:
            self._early_trends.append((points, Trend(points, correlation=self._correlation)))
            points //= EARLY_SHARE
        self._probe = ProbeTrend(planned_points)
        self._confirmation = RiseConfirmation(planned_points)

    def add(
        self,
        step: int,
        loss: float,
        *,
        probe_loss: float | None = None,
        lr: float | None = None,
        grad_norm: float | None = None,
        terms: Mapping[str, float] | None = None,
    ) -> CurveVerdict | None:
        """Add one point. Return an `unstable` verdict once instability is detected, and the same one from then on.

        `probe_loss` is the loss on the fixed probe batch before this step. `terms` are other numbers, checked for
        finiteness only.
        """
        if self._unstable is not None:
            return self._unstable
        self._points += 1
        non_finite = self._finite.add(step, loss, probe_loss, grad_norm, terms)
        if non_finite is not None:
            return self._judge_non_finite(step, non_finite)
        if self._jumps_ahead and step >= self._jumps_ahead[-1] and self._pass_jumps(step):
            return self._unstable
        if self._points > 1 and step - self._step != self._spacing.stride:
            self._spacing.add(self._step, step)
        self._step = step
        if lr is not None or self._evidence.has_learning_rate:
            self._evidence.add(step, lr)
        if self._untrained and self._untrained.add(step, loss, probe_loss) and probe_loss is not None:
            text = messages.worse_than_untrained(self._untrained, step, probe_loss)
            alarm = _divergence_alarm(text, self._untrained.first_step)
            return self._report(step, replace(alarm, series="probe_loss"))
        if len(self._first_losses) < FIRST_LOSSES:
            self._first_losses.append(loss)
        if probe_loss is not None:
            if self._initial_score is None:
                self._initial_score = probe_loss
                for trend in self._trends:
                    trend.shows_weak_rises = True
            self._last_scores.append(probe_loss)
            self._confirmation.add_score(step, probe_loss)
            self._correlation.ignore()  # correlated noise does not reach the probe batch, and so is not confirmed
        verdict = self._judge_loss(step, loss)
        return verdict if verdict or probe_loss is None else self._judge_probe(step, probe_loss)

    def alarm_distance(self) -> AlarmDistance | None:
        """Return how far the loss is from a rise that is detected; None before one is tested.

        Of the whole curve and its beginning, which is judged in shorter blocks, the one that is closest to it decides.
        Spikes, swings and divergence have detectors of their own.
        """
        found = [distance for trend in self._trends if (distance := trend.alarm_distance()) is not None]
        return max(found, key=lambda distance: distance.share, default=None)

    @property
    def is_confirming(self) -> bool:
        """Whether a rise was detected, and the probe batch or further losses are to confirm or reject it."""
        return self._confirmation.candidate is not None

    def finish(self, *, ended_early: bool = False) -> CurveVerdict:
        """Return the verdict on the points so far. A run that `ended_early`, before its planned points, cannot promote.

        The judge can be fed further points afterwards: a loss that is high at the end may still recover.
        """
        if self._unstable is not None:
            return self._unstable
        verdict = self._judge_end(ended_early)
        self._unstable = None
        return verdict

    def _judge_end(self, ended_early: bool) -> CurveVerdict:
        if self._confirmation.candidate:  # it is still high, and no score has rejected it
            return self._report(self._step, self._confirmation.candidate.alarm)
        if self._trend.block_count < MIN_BLOCKS_JUDGED:
            if (collapse := self._finite.zeros_at_end()) is not None:
                return self._judge_non_finite(self._step, collapse)
            if self._divergence.ends_high():
                return self._report(self._step, self._diverged(self._step, self._divergence).alarm)
            if self._early_divergence.ends_high():
                return self._report(self._step, self._diverged_early(self._step, self._early_divergence).alarm)
        if dead := self._finite.dead():
            return self._verdict(FinalVerdict(verdict="hold", reason="constant", text=dead))
        if ended_early:
            text = messages.ended_early(self._step, self._points, self._planned_points)
            return self._verdict(FinalVerdict(verdict="inconclusive", reason="ended-early", text=text))
        return self._verdict(self._stable_curve().verdict())

    def _judge_non_finite(self, step: int, non_finite: NonFinite) -> CurveVerdict:
        skipping_since = self._finite.skipping_since
        before = self._step if skipping_since is None else min(self._step, skipping_since - 1)
        data = {"last_good_step": before if self._points > 1 else None}
        return self._report(step, Alarm(reason="non-finite", text=non_finite.text, series=non_finite.series, data=data))

    def _judge_loss(self, step: int, loss: float) -> CurveVerdict | None:
        """Feed every detector. Decide on the candidate, or else make the first rise that is seen the candidate."""
        self._confirmation.add_loss(loss)
        above_start = self._above_start.add(step, loss, self._correlation.points_per_independent)
        is_divergence = self._divergence.add(step, loss)
        is_early_divergence = self._early_divergence.add(step, loss)
        self._correlation.add(loss)
        correlation = self._correlation.points_per_independent
        has_probe = self._initial_score is not None
        spikes = [
            spike
            for spike in self._spikes
            if spike.add(step, loss, self._trend.progress, correlation, is_whole_high=has_probe)
        ]
        rises = self._add_to_trends(step, loss)
        if self._swings.add(step, loss):
            data = {"last_good_step": self._swings.low_step}
            return self._report(
                step, Alarm(reason="swings", text=messages.swings(self._swings, step), series="loss", data=data)
            )
        weak_rises = [rise for rise in rises if rise.is_weak]
        if self._confirmation.candidate:
            return self._decide_on_candidate(step) or self._judge_weak_rises(step, weak_rises)
        candidates = []
        if is_divergence:
            candidates.append(self._diverged(step, self._divergence))
        if above_start:
            candidates.append(self._rose_above_start(step, loss, above_start))
        if is_early_divergence:
            candidates.append(self._diverged_early(step, self._early_divergence))
        candidates += [self._spiked(step, spike) for spike in spikes]
        candidates += [self._rose(step, rise) for rise in rises if not rise.is_weak][:1]
        if any(self._confirmation.accepts(candidate) for candidate in candidates):
            return self._decide_on_candidate(step) or self._judge_weak_rises(step, weak_rises)
        return self._judge_weak_rises(step, weak_rises)

    def _diverged(self, step: int, divergence: DivergenceDetector) -> CandidateRise:
        # Before it is trained, a model has no checkpoint to return to.
        is_trained = self._jumps_passed or divergence.points_before > EARLY_START_POINTS
        last_good_step = divergence.step_before if is_trained else None
        return CandidateRise(
            alarm=_divergence_alarm(messages.divergence(divergence, step), last_good_step),
            step=step,
            last_good_step=divergence.step_before,
            first_step=divergence.first_step,
            points=len(divergence.streak),
            level=divergence.highest,
            rise=min(divergence.streak) - divergence.highest,
        )

    def _rose_above_start(self, step: int, loss: float, seen: AboveStart) -> CandidateRise:
        return CandidateRise(
            alarm=_divergence_alarm(messages.above_start(seen, step, loss), seen.last_step),
            step=step,
            last_good_step=seen.last_step,
            first_step=seen.last_step + 1,
            points=seen.exceeding,
            level=seen.level,
            rise=seen.threshold - seen.level,
        )

    def _diverged_early(self, step: int, early: EarlyDivergenceDetector) -> CandidateRise:
        last_good_step = early.first_step if self._jumps_passed else None
        return CandidateRise(
            alarm=_divergence_alarm(messages.early_divergence(early, step), last_good_step),
            step=step,
            last_good_step=early.first_step,
            first_step=early.first_step + 1,
            points=early.streak_points,
            level=early.level,
            rise=early.lowest - early.level,
        )

    def _spiked(self, step: int, spike: SpikeDetector) -> CandidateRise:
        height, level = spike.height, spike.level
        data = {"last_good_step": spike.step_before, "high_span": [spike.first_step, step, height]}
        return CandidateRise(
            alarm=Alarm(reason="spike", text=messages.spike(spike), series="loss", data=data),
            step=step,
            last_good_step=spike.step_before,
            first_step=spike.first_step,
            points=len(spike.streak),
            level=level,
            rise=height - level,
        )

    def _rose(self, step: int, rise: Rise) -> CandidateRise:
        low_span, high_span = rise.low_span, rise.high_span
        return CandidateRise(
            alarm=_alarm(rise, "loss"),
            step=step,
            last_good_step=low_span.last_step,
            first_step=high_span.first_step,
            points=rise.points,
            level=low_span.mean,
            rise=high_span.mean - low_span.mean,
        )

    def _judge_probe(self, step: int, probe_loss: float) -> CurveVerdict | None:
        rise = self._probe.add(self._points, step, probe_loss)
        return self._report(step, _alarm(rise, "probe_loss")) if rise else None

    def _decide_on_candidate(self, step: int) -> CurveVerdict | None:
        candidate = self._confirmation.candidate
        assert candidate is not None
        decision = self._confirmation.decide(step)
        return self._report(step, candidate.alarm) if decision == "confirmed" else None

    @property
    def _trends(self) -> list[Trend]:
        """The trends of the beginning and of the whole curve."""
        return [*(trend for _, trend in self._early_trends), self._trend]

    def _add_to_trends(self, step: int, loss: float) -> list[Rise]:
        """Feed the trends. One of the beginning that ends hands its lowest span on to the next longer one."""
        if not self._early_trends:
            rise = self._trend.add(step, loss)
            return [rise] if rise else []
        rises = [rise for trend in self._trends if (rise := trend.add(step, loss))]
        points, ending = self._early_trends[-1]
        if self._points >= points:
            self._early_trends.pop()
            longer = self._early_trends[-1][1] if self._early_trends else self._trend
            longer.earlier_low = ending.lowest_span()
        return rises

    def _judge_weak_rises(self, step: int, rises: Sequence[Rise]) -> CurveVerdict | None:
        """Report the first of the weak rises that the probe batch shows as well."""
        for rise in rises:
            levels = self._confirmation.shared_weak_rise(self._rose(step, rise))
            if levels is not None:
                return self._report(step, replace(_alarm(rise, "loss"), text=messages.shared_rise(rise, *levels)))
        return None

    def _start_segment(self, last_step: int) -> list[Rise]:
        """Compare no levels across the end of `last_step`; return the rises that the ended segment still shows."""
        self._spikes = [SpikeDetector(self._planned_points, points) for points in SPIKE_REFERENCES]
        self._above_start = AboveStartDetector(self._planned_points)
        self._divergence = DivergenceDetector()
        self._swings = SwingDetector()
        self._early_divergence = EarlyDivergenceDetector()
        self._untrained = None
        self._correlation.start_segment()
        rises = [rise for trend in self._trends if (rise := trend.start_segment(last_step))]
        return [rise for rise in rises if not rise.is_weak]

    def _pass_jumps(self, step: int) -> bool:
        """Start a new segment at an expected jump; return whether the segment that ends here had risen."""
        while self._jumps_ahead and step >= self._jumps_ahead[-1]:
            self._jumps_ahead.pop()
        if self._points == 1:
            return False
        self._jumps_passed += 1
        if self._confirmation.candidate:
            self._report(self._step, self._confirmation.candidate.alarm)
            return True
        alarms = [_alarm(rise, "loss") for rise in self._start_segment(self._step)]
        self._confirmation.start_segment()
        self._confirmation.forget_scores()
        probe_rise = self._probe.start_segment(self._step)
        if probe_rise:
            alarms.append(_alarm(probe_rise, "probe_loss"))
        if alarms:
            self._report(self._step, alarms[0])
        return bool(alarms)

    def _report(self, step: int, alarm: Alarm) -> CurveVerdict:
        """Make the curve unstable for good."""
        final = FinalVerdict(verdict="unstable", reason=alarm.reason, text=alarm.text, data=alarm.data)
        self._unstable = self._verdict(final, step=step, series=alarm.series)
        return self._unstable

    def _stable_curve(self) -> StableCurve:
        return StableCurve(
            points=self._points,
            evidence=self._evidence,
            trend=self._trend,
            probe_trend=self._probe.trend,
            from_scratch=self._from_scratch,
            initial_loss=median_of_sorted(sorted(self._first_losses)) if self._first_losses else inf,
            initial_score=self._initial_score,
            last_scores=self._last_scores,
            classes=self._classes,
            jumps_passed=self._jumps_passed,
            rejected_rises=self._confirmation.rejected_rises,
            bursts=self._confirmation.bursts,
        )

    def _verdict(self, final: FinalVerdict, *, step: int | None = None, series: str = "loss") -> CurveVerdict:
        evidence = self._evidence
        data: dict[str, Any] = {"planned_points": self._planned_points, "last_step": self._step}
        if evidence.has_learning_rate:
            data |= {"evidence_end": evidence.end, "evidence_steps": evidence.steps}
            data["evidence_needed"] = evidence.needed
        if final.verdict != "unstable":
            limit = self._stable_curve().detection_limit()
            data["smallest_rise"] = limit.share_of_level if limit else None
            data["smallest_rise_loss"] = limit.rise if limit else None
            data["smallest_rise_of_limit"] = limit.ratio_to_claim if limit else None
        return CurveVerdict(
            verdict=final.verdict,
            reason=final.reason,
            step=step,
            text=final.text,
            series=series,
            points=self._points,
            notes=tuple(self._notes()),
            data=data | final.data,
        )

    def _notes(self) -> list[str]:
        notes = [] if self._evidence.has_learning_rate else ["no learning rate column: judged by the loss alone"]
        notes += self._finite.notes() + self._spacing.notes()
        if self._jumps_passed:
            jumps = count(self._jumps_passed, "expected jump")
            notes.append(f"{jumps}: levels are not compared across {'it' if self._jumps_passed == 1 else 'them'}")
        return notes


def _divergence_alarm(text: str, last_good_step: int | None) -> Alarm:
    return Alarm(reason="divergence", text=text, series="loss", data={"last_good_step": last_good_step})


def _alarm(rise: Rise, series: str) -> Alarm:
    low_span, high_span = rise.low_span, rise.high_span
    data = {
        "last_good_step": low_span.last_step,
        "low_span": [low_span.first_step, low_span.last_step, low_span.mean],
        "high_span": [high_span.first_step, high_span.last_step, high_span.mean],
        "sigmas": rise.sigmas if rise.sigmas < inf else None,
    }
    return Alarm(reason="rise", text=messages.rise(series, rise), series=series, data=data)
