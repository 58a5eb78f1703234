"""The judge of one short training run: points in, in order; one verdict out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from pytest_smoke.judge.curve import messages as words
from pytest_smoke.judge.curve.curve_verdict import CurveVerdict
from pytest_smoke.judge.curve.divergence import Divergence
from pytest_smoke.judge.curve.early_divergence import EarlyDivergence
from pytest_smoke.judge.curve.evidence import Evidence
from pytest_smoke.judge.curve.final_verdict import FinalVerdict, Window
from pytest_smoke.judge.curve.finite import Finite
from pytest_smoke.judge.curve.probe_batch import ProbeTrend
from pytest_smoke.judge.curve.rise_confirmation import Alarm, CandidateRise, RiseConfirmation
from pytest_smoke.judge.curve.spike import Spike
from pytest_smoke.judge.curve.step_spacing import StepSpacing
from pytest_smoke.judge.curve.trend import Rise, Trend

__all__ = ["CurveJudge", "CurveVerdict"]

EARLY_SHARE = 10
"""A second instance judges the first tenth as a window of its own, in blocks a tenth as long; a third the hundredth."""
FEWEST_EARLY_POINTS = 100
"""Shorter early windows are left to the main instance."""


class CurveJudge:
    """Judges a run as it comes. The verdict depends on the points alone, never on how they were delivered.

    `planned_points` sets the length of a block; `edges` are the steps at which the data or the loss changes by design;
    `peak_lr` defaults to the largest learning rate seen; `evidence_needed` counts steps at 80 % of it or more, and
    defaults to half of the window, 2,500 at most.
    """

    def __init__(
        self,
        *,
        planned_points: int,
        from_scratch: bool = False,
        edges: Sequence[int] = (),
        peak_lr: float | None = None,
        evidence_needed: int | None = None,
    ) -> None:
        if planned_points < 1:
            raise ValueError(f"planned_points is {planned_points}: a window has at least 1")
        self._planned = planned_points
        self._from_scratch = from_scratch
        self._edges = sorted(edges, reverse=True)
        self._edges_met = 0
        self._latched: CurveVerdict | None = None
        self._points = 0
        self._step = 0
        self._finite = Finite()
        self._spacing = StepSpacing()
        self._evidence = Evidence(peak_lr, evidence_needed)
        self._spike = Spike(planned_points)
        self._divergence = Divergence(planned_points)
        self._early_divergence = EarlyDivergence()
        self._trend = Trend(planned_points)
        self._early: list[tuple[int, Trend]] = []
        points = planned_points // EARLY_SHARE
        while points >= FEWEST_EARLY_POINTS:
            self._early.append((points, Trend(points)))
            points //= EARLY_SHARE
        self._probe = ProbeTrend(planned_points)
        self._confirmation = RiseConfirmation()

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
        """One point, in order: the `unstable` judgement as soon as the run is doomed, and from then on the same one.

        `terms` are other numeric series, checked for finiteness only.
        """
        if self._latched is not None:
            return self._latched
        self._points += 1
        failed = self._finite.add(step, loss, probe_loss, grad_norm, terms)
        if failed:
            skipped = self._finite.row_first
            before = self._step if skipped is None else min(self._step, skipped - 1)
            good = before if self._points > 1 else None
            text = f"{failed[1]} at step {step}"
            return self._latch(
                step, Alarm(reason="non-finite", text=text, series=failed[0], data={"last_good_step": good})
            )
        if self._edges and step >= self._edges[-1] and self._cross(step):
            return self._latched
        if self._points > 1 and step - self._step != self._spacing.stride:
            self._spacing.add(self._step, step)
        self._step = step
        if lr is not None or self._evidence.seen:
            self._evidence.add(step, lr)
        if probe_loss is not None:
            self._confirmation.add(step, probe_loss)
        found = self._judge_loss(step, loss)
        return found if found or probe_loss is None else self._judge_probe(step, probe_loss)

    def _judge_loss(self, step: int, loss: float) -> CurveVerdict | None:
        if self._divergence.add(step, loss):
            text = words.divergence("loss", self._divergence, step, loss)
            good = self._divergence.last_head_step
            return self._latch(
                step, Alarm(reason="divergence", text=text, series="loss", data={"last_good_step": good})
            )
        if self._early_divergence.add(step, loss):
            trained = (
                self._edges_met or self._confirmation.rejected_rises
            )  # else the first loss is that of the initial weights
            data = {"last_good_step": self._early_divergence.first_step if trained else None}
            text = words.onset("loss", self._early_divergence, step)
            return self._latch(step, Alarm(reason="divergence", text=text, series="loss", data=data))
        if self._confirmation.candidate:
            self._confirmation.follow(loss)
            return self._await_probe(step)
        spike = self._spike
        if spike.add(step, loss, self._trend.progress):
            return self._spiked(step, spike)
        rise = self._trend.add(step, loss)
        if self._early:
            rise = self._judge_early(step, loss) or rise
        return self._risen(step, rise, "loss") if rise else None

    def _check_rise(self, candidate: CandidateRise) -> CurveVerdict | None:
        """A rise of the minibatch loss: an alarm, unless the probe batch is there to be asked first."""
        if not self._confirmation.needed(candidate):
            return self._latch(candidate.step, candidate.alarm)
        self._confirmation.check(candidate)
        return self._await_probe(candidate.step)

    def _await_probe(self, step: int) -> CurveVerdict | None:
        candidate = self._confirmation.candidate
        assert candidate is not None
        verdict = self._confirmation.verdict(step)
        if verdict == "denied":
            self._restart_levels(step)
        return self._latch(step, candidate.alarm) if verdict == "guilty" else None

    def _restart_levels(self, step: int) -> list[Rise | None]:
        """`step` is the last one before levels change; what the segment that ends here still shows."""
        self._spike = Spike(self._planned)
        self._divergence = Divergence(self._planned)
        self._early_divergence = EarlyDivergence()
        return [trend.edge(step) for trend in (self._trend, *(early for _, early in self._early))]

    def _judge_early(self, step: int, loss: float) -> Rise | None:
        found = [early.add(step, loss) for points, early in self._early if self._points <= points]
        if self._points >= self._early[0][0]:
            self._early = []
        return next((rise for rise in found if rise), None)

    def _judge_probe(self, step: int, probe_loss: float) -> CurveVerdict | None:
        rise = self._probe.add(self._points, step, probe_loss)
        return self._risen(step, rise, "probe_loss") if rise else None

    def _cross(self, step: int) -> bool:
        """Pass declared edges: what follows is a new start. Whether the segment that ends here had risen."""
        while self._edges and step >= self._edges[-1]:
            self._edges.pop()
        if self._points == 1:
            return False
        self._edges_met += 1
        if self._confirmation.candidate:
            return self._latch(self._step, self._confirmation.candidate.alarm) is not None
        found = [(rise, "loss") for rise in self._restart_levels(self._step)]
        self._confirmation.forget()
        for rise, series in [*found, (self._probe.edge(self._step), "probe_loss")]:
            if rise and self._latched is None:
                self._latch(self._step, _rise(rise, series))
        return self._latched is not None

    def _spiked(self, step: int, spike: Spike) -> CurveVerdict | None:
        lowest, level = min(spike.streak), spike.level()
        data = {"last_good_step": spike.before, "offence": [spike.first, step, lowest]}
        alarm = Alarm(reason="spike", text=words.spike("loss", spike), series="loss", data=data)
        return self._check_rise(
            CandidateRise(
                alarm=alarm, step=step, good=spike.before, first=spike.first, level=level, rise=lowest - level
            )
        )

    def _risen(self, step: int, rise: Rise, series: str) -> CurveVerdict | None:
        alarm, low_span, high_span = _rise(rise, series), rise.low_span, rise.high_span
        if series != "loss":
            return self._latch(step, alarm)
        change = high_span.value - low_span.value
        return self._check_rise(
            CandidateRise(
                alarm=alarm, step=step, good=low_span.last, first=high_span.first, level=low_span.value, rise=change
            )
        )

    def _latch(self, step: int, alarm: Alarm) -> CurveVerdict:
        closing = FinalVerdict(verdict="unstable", reason=alarm.reason, text=alarm.text, data=alarm.data)
        self._latched = self._judgement(closing, step=step, series=alarm.series)
        return self._latched

    def finish(self, *, cut: bool = False) -> CurveVerdict:
        """The verdict. `cut`: the run ended before its planned points, and nothing can promote it."""
        if self._latched is not None:
            return self._latched
        if self._confirmation.candidate:  # nothing denied it
            return self._latch(self._step, self._confirmation.candidate.alarm)
        if cut:
            text = words.cut(self._step, self._points, self._planned)
            return self._judgement(FinalVerdict(verdict="inconclusive", reason="cut", text=text))
        return self._judgement(self._window().close())

    def _window(self) -> Window:
        return Window(
            points=self._points,
            evidence=self._evidence,
            trend=self._trend,
            probe=self._probe.trend,
            from_scratch=self._from_scratch,
            edges=self._edges_met,
            rejected_rises=self._confirmation.rejected_rises,
        )

    def _judgement(self, closing: FinalVerdict, *, step: int | None = None, series: str = "loss") -> CurveVerdict:
        evidence = self._evidence
        figures: dict[str, Any] = {"planned_points": self._planned, "last_step": self._step}
        if evidence.seen:
            figures |= {"evidence_end": evidence.end, "evidence_steps": evidence.steps}
            figures["evidence_needed"] = evidence.needed
        if closing.verdict != "unstable":
            bound = self._window().bound()
            figures["smallest_rise"] = bound.of_level if bound else None
            figures["smallest_rise_loss"] = bound.rise if bound else None
        return CurveVerdict(
            verdict=closing.verdict,
            reason=closing.reason,
            step=step,
            text=closing.text,
            series=series,
            points=self._points,
            notes=tuple(self._notes()),
            data=figures | closing.data,
        )

    def _notes(self) -> list[str]:
        notes = [] if self._evidence.seen else ["no learning rate column: judged on its loss alone"]
        notes += self._finite.notes() + self._spacing.notes()
        if self._edges_met:
            edges = f"{self._edges_met} declared edge{'s' * (self._edges_met > 1)}"
            notes.append(f"{edges}: levels are not compared across them")
        return notes


def _rise(rise: Rise, series: str) -> Alarm:
    low_span, high_span = rise.low_span, rise.high_span
    data = {
        "last_good_step": low_span.last,
        "trough": [low_span.first, low_span.last, low_span.value],
        "offence": [high_span.first, high_span.last, high_span.value],
        "sigmas": rise.sigmas if rise.sigmas < inf else None,
    }
    return Alarm(reason="rise", text=words.rise(series, rise), series=series, data=data)
