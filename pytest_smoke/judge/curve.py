"""The judge of one short training run: points in, in order; one verdict out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, inf
from typing import Any

from pytest_smoke.judge import words
from pytest_smoke.judge.divergence import Divergence
from pytest_smoke.judge.evidence import Evidence
from pytest_smoke.judge.finite import Finite
from pytest_smoke.judge.judgement import Judgement, Verdict
from pytest_smoke.judge.pace import Pace
from pytest_smoke.judge.spike import Spike
from pytest_smoke.judge.trend import Bound, Gate, Rise, Trend

__all__ = ["CurveJudge", "Judgement"]

FEWEST_BLOCKS_JUDGED = 16
"""Blocks below which noise and trough are one guess: the run is too short."""
EARLY_SHARE = 10
"""A second instance judges the first tenth as a window of its own, in blocks a tenth as long; a third the hundredth."""
FEWEST_EARLY_POINTS = 100
"""Shorter early windows are left to the main instance."""
HOPELESS = 1e3
"""Noise so many times too large has no useful advice: a million times the points."""

PROBE_BLOCKS = 400
"""A probe batch has no sampling noise: every point is a block until there are more than 400."""
PROBE_SPANS = (3, 6, 12, 24)
"""Probe points averaged: single ones rise above the rest in healthy runs too ..."""
PROBE_LASTING = 2
"""... so that one point alone, however high, raises no alarm."""
PROBE_SIGMAS = 5.0
"""What is left of a fixed batch's noise wanders: differences of neighbours understate it."""
PROBE_GATE = Gate(level=0.10, progress=0.05, doubled=0.05)
"""Five times the gate of the loss: the slice of a healthy run wanders by some gates of its own."""


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
        self._latched: Judgement | None = None
        self._points = 0
        self._step = 0
        self._finite = Finite()
        self._pace = Pace()
        self._evidence = Evidence(peak_lr, evidence_needed)
        self._spike = Spike(planned_points)
        self._divergence = Divergence(planned_points)
        self._trend = Trend(planned_points)
        self._early: list[tuple[int, Trend]] = []
        points = planned_points // EARLY_SHARE
        while points >= FEWEST_EARLY_POINTS:
            self._early.append((points, Trend(points)))
            points //= EARLY_SHARE
        self._probe: Trend | None = None
        self._first_probe: tuple[int, int, float] | None = None

    def add(
        self,
        step: int,
        loss: float,
        *,
        probe_loss: float | None = None,
        lr: float | None = None,
        grad_norm: float | None = None,
        terms: Mapping[str, float] | None = None,
    ) -> Judgement | None:
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
            return self._alarm("non-finite", step, f"{failed[1]} at step {step}", failed[0], last_good_step=good)
        if self._edges and step >= self._edges[-1] and self._cross(step):
            return self._latched
        if self._points > 1 and step - self._step != self._pace.stride:
            self._pace.add(self._step, step)
        self._step = step
        if lr is not None or self._evidence.seen:
            self._evidence.add(step, lr)
        found = self._judge_loss(step, loss)
        return found if found or probe_loss is None else self._judge_probe(step, probe_loss)

    def _judge_loss(self, step: int, loss: float) -> Judgement | None:
        if self._divergence.add(step, loss):
            text = words.divergence("loss", self._divergence, step, loss)
            good = self._divergence.last_head_step
            return self._alarm("divergence", step, text, "loss", last_good_step=good)
        spike = self._spike
        if spike.add(step, loss, self._trend.progress):
            offence = [spike.first, step, min(spike.streak)]
            text = words.spike("loss", spike)
            return self._alarm("spike", step, text, "loss", last_good_step=spike.before, offence=offence)
        rise = self._trend.add(step, loss)
        if self._early:
            rise = self._judge_early(step, loss) or rise
        return self._risen(step, rise, "loss") if rise else None

    def _judge_early(self, step: int, loss: float) -> Rise | None:
        found = [early.add(step, loss) for points, early in self._early if self._points <= points]
        if self._points >= self._early[0][0]:
            self._early = []
        return next((rise for rise in found if rise), None)

    def _judge_probe(self, step: int, probe_loss: float) -> Judgement | None:
        if self._first_probe is None:
            self._first_probe = (self._points, step, probe_loss)
            return None
        if self._probe is None:
            point, first_step, first_loss = self._first_probe
            planned = max(1, self._planned // (self._points - point))
            self._probe = Trend(
                planned,
                blocks=PROBE_BLOCKS,
                min_points=1,
                spans=PROBE_SPANS,
                gate=PROBE_GATE,
                sigmas=PROBE_SIGMAS,
                lasting=PROBE_LASTING,
            )
            self._probe.add(first_step, first_loss)
        rise = self._probe.add(step, probe_loss)
        return self._risen(step, rise, "probe_loss") if rise else None

    def _cross(self, step: int) -> bool:
        """Pass declared edges: what follows is a new start. Whether the segment that ends here had risen."""
        while self._edges and step >= self._edges[-1]:
            self._edges.pop()
        if self._points == 1:
            return False
        self._edges_met += 1
        self._spike = Spike(self._planned)
        self._divergence = Divergence(self._planned)
        found = [(trend.edge(self._step), "loss") for trend in (self._trend, *(early for _, early in self._early))]
        if self._probe:
            found.append((self._probe.edge(self._step), "probe_loss"))
        for rise, series in found:
            if rise and self._latched is None:
                self._risen(self._step, rise, series)
        return self._latched is not None

    def _risen(self, step: int, rise: Rise, series: str) -> Judgement:
        trough, offence = rise.trough, rise.offence
        return self._alarm(
            "rise",
            step,
            words.rise(series, rise),
            series,
            last_good_step=trough.last,
            trough=[trough.first, trough.last, trough.value],
            offence=[offence.first, offence.last, offence.value],
            sigmas=rise.sigmas if rise.sigmas < inf else None,
        )

    def _alarm(self, reason: str, step: int, text: str, series: str, **data: Any) -> Judgement:
        self._latched = self._judgement("unstable", reason, text, step=step, series=series, **data)
        return self._latched

    def finish(self, *, cut: bool = False) -> Judgement:
        """The verdict. `cut`: the run ended before its planned points, and nothing can promote it."""
        if self._latched is not None:
            return self._latched
        if cut:
            return self._judgement("inconclusive", "cut", words.cut(self._step, self._points, self._planned))
        return self._masked() or self._blind() or self._sideways() or self._promoted()

    def _masked(self) -> Judgement | None:
        evidence = self._evidence
        if not evidence.seen or (evidence.end is not None and evidence.steps >= evidence.needed):
            return None
        return self._judgement("invalid", "masked", words.masked(evidence))

    def _blind(self) -> Judgement | None:
        """Too short or too noisy: a lasting rise by a tenth would not have been seen, in the loss or in the probe."""
        if self._trend.blocks < FEWEST_BLOCKS_JUDGED:
            missing = (FEWEST_BLOCKS_JUDGED - self._trend.blocks) * self._trend.block_points
            needed = self._points - self._trend.pending + missing
            text = words.too_short(self._points, needed)
            return self._judgement("inconclusive", "too-short", text, points_needed=needed)
        bound = self._bound()
        if bound is None or bound.excess <= 1:
            return None
        # Noise of a mean falls with the root of the points.
        enough = ceil(self._points * bound.excess**2) if bound.excess < HOPELESS else None
        text = words.too_noisy(self._points, enough, bound)
        return self._judgement("inconclusive", "too-noisy", text, points_needed=enough)

    def _bound(self) -> Bound | None:
        bounds = [self._trend.bound()]
        if self._probe is not None and self._probe.blocks >= FEWEST_BLOCKS_JUDGED:
            bounds.append(self._probe.bound())
        return min((bound for bound in bounds if bound), key=lambda bound: bound.excess, default=None)

    def _sideways(self) -> Judgement | None:
        first, _, fell = self._trend.fall()
        if fell or self._edges_met or (self._probe is not None and self._probe.fall()[2]):
            return None
        verdict: Verdict = "inconclusive" if self._from_scratch else "promote"
        return self._judgement(verdict, "no-progress", words.sideways(first))

    def _promoted(self) -> Judgement:
        first, low, _ = self._trend.fall()
        bound = self._bound()
        assert bound is not None  # 16 blocks have one
        return self._judgement("promote", "", words.promoted(self._points, first, low, bound))

    def _judgement(
        self, verdict: Verdict, reason: str, text: str, *, step: int | None = None, series: str = "loss", **data: Any
    ) -> Judgement:
        evidence = self._evidence
        figures: dict[str, Any] = {"planned_points": self._planned, "last_step": self._step}
        if evidence.seen:
            figures |= {"evidence_end": evidence.end, "evidence_steps": evidence.steps}
            figures["evidence_needed"] = evidence.needed
        if verdict != "unstable":
            bound = self._bound()
            figures["smallest_rise"] = bound.of_level if bound else None
            figures["smallest_rise_loss"] = bound.rise if bound else None
        notes = [] if evidence.seen else ["no learning rate column: judged on its loss alone"]
        notes += self._finite.notes() + self._pace.notes()
        if self._edges_met:
            notes.append(
                f"{self._edges_met} declared edge{'s' * (self._edges_met > 1)}: levels are not compared across them"
            )
        return Judgement(
            verdict=verdict,
            reason=reason,
            step=step,
            text=text,
            series=series,
            points=self._points,
            notes=tuple(notes),
            data=figures | data,
        )
