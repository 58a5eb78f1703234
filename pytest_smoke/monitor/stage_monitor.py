"""The judge of one window: a stage of a smoke, or all of one without stages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from pytest_smoke import schedules
from pytest_smoke.criteria import parse
from pytest_smoke.events import Step, Updates
from pytest_smoke.judge.checks.grad_ratio import grad_ratio, postmortem
from pytest_smoke.judge.checks.preflight import evidence_needed
from pytest_smoke.judge.checks.stage import stage_finding
from pytest_smoke.judge.checks.updates import updates
from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from pytest_smoke.judge.verdict import HELD
from pytest_smoke.monitor.trace import Trace
from pytest_smoke.outcome import Finding, Status
from pytest_smoke.recipe.windows import Window

STATUS: dict[str, Status] = {
    "promote": "pass",
    "unstable": "fail",
    "invalid": "fail",
    "inconclusive": "not-checked",
}


class StageMonitor:
    """Judges the steps of one window as they come."""

    def __init__(self, window: Window, trace: Trace) -> None:
        self.window = window
        self.updates: Updates | None = None
        self.train_seconds: float | None = None
        """Wall time of its steps; None where it did not reach its end."""
        self.stage: Finding | None = None
        """What its own criteria said; None until its end, and where it has none."""
        self.judgement: CurveVerdict | None = None
        """What its curve said at the end."""
        self._trace = trace
        self._parameter_norm = 0.0
        case = window.case
        self._judge = CurveJudge(
            planned_points=window.steps,
            from_scratch=case.full.from_scratch,
            expected_jumps=[*case.recipe.smoke.edges, *(window.span.edges if window.span else ())],
            peak_lr=case.full.learning_rate,
            evidence_needed=evidence_needed(case),
        )

    @property
    def steps(self) -> Sequence[Step]:
        """Its steps so far."""
        return self._trace.steps[self.window.first_step : self.window.end]

    @property
    def evidence_steps(self) -> int:
        """Its steps at 80 % or more of its peak learning rate."""
        peak = schedules.EVIDENCE_SHARE * self.window.case.full.learning_rate
        return sum(row.lr >= peak for row in self.steps)

    @property
    def terms(self) -> list[str]:
        """The loss terms of its steps: phases may have different ones."""
        return list(dict.fromkeys(term for row in self.steps for term in row.terms))

    def is_wired(self, judgement: CurveVerdict) -> bool:
        """Whether all that can be said is that the steps ran: a wiring run, and nothing wrong in it."""
        return self.window.case.mode == "wiring" and judgement.verdict != "unstable"

    def on_step(self, row: Step) -> CurveVerdict | None:
        """One step; the judgement as soon as the window is doomed."""
        return self._judge.add(
            row.step,
            row.loss,
            probe_loss=self._trace.probe_loss.get(row.step),
            lr=row.lr,
            grad_norm=row.grad_norm,
            terms={**row.terms, "parameters": self._parameter_norm},
        )

    def parameters(self, norm: float) -> None:
        """The norm of all parameters after the newest step."""
        self._parameter_norm = norm

    def judge_stage(self, *, next_name: str | None, baseline: Mapping[str, float] | None) -> None:
        """Ask the stage's own criteria at its end, in its own steps."""
        window, span = self.window, self.window.span
        if span is None or not span.stage.accept:
            return
        series = {
            name: [
                (step - window.first_step, value) for step, value in points if window.first_step <= step < window.end
            ]
            for name, points in self._trace.series().items()
        }
        judged = [
            parse(text).judge(
                series,
                baseline=baseline,
                steps_run=window.steps,
                stages={window.name: (0, window.steps - 1)},
                steps_per_epoch=window.steps_per_epoch,
            )
            for text in span.stage.accept
        ]
        self.stage = stage_finding(
            window.name,
            judged,
            first_step=window.first_step,
            last_step=window.end - 1,
            next_name=next_name,
            goes_on=span.stage.continue_on_fail,
        )

    @property
    def holds_back(self) -> bool:
        """Whether the stage's criteria failed and no later stage may start."""
        failed = self.stage is not None and self.stage.status == "fail"
        return failed and self.window.span is not None and not self.window.span.stage.continue_on_fail

    def judge_loss(self, *, complete: bool) -> tuple[list[Finding], float | None, CurveVerdict]:
        """The findings `finite` and `loss-trend`, the smallest lasting rise they would have seen, the judgement."""
        judgement = self._judge.finish(ended_early=not complete)
        return list(self._loss_findings(judgement)), judgement.data.get("smallest_rise_loss"), judgement

    def judge_rest(self, *, pairs: Mapping[str, Sequence[float]]) -> list[Finding]:
        """`updates` and `grad-ratio` of a window that reached its end."""
        assert self.updates is not None
        window = self.window
        probes = [probe for probe in self._trace.gradients if window.first_step <= probe.step < window.end]
        from_step = window.first_step + first_evidence_step(window)
        ratio = grad_ratio(probes, pairs, terms=self.terms, from_step=from_step, id=window.id("grad-ratio"))
        return [updates(self.updates, id=window.id("updates")), *([ratio] if ratio else [])]

    def not_reached(self, why: str, *, held: bool, trend: bool, pairs: bool) -> list[Finding]:
        """Its checks, not made: the smoke ended before them. `held`: because an earlier stage's criteria failed."""
        own = self.window.span is not None and self.window.span.stage.accept
        checks = [*(["loss-trend"] if trend else []), "updates"]
        checks += [*(["grad-ratio"] if pairs else []), *(["stage"] if own else [])]
        reason = HELD if held else "cut"
        texts = self.window.span.stage.accept if self.window.span else []
        criteria = [parse(text).not_judged(reason, why).to_dict() for text in texts]
        return [
            Finding(
                id=self.window.id(check),
                status="not-checked",
                reason=reason,
                text=self._said(why),
                data={"criteria": criteria} if check == "stage" else {},
            )
            for check in checks
        ]

    def _said(self, text: str) -> str:
        return f"stage {self.window.name}: {text}" if self.window.span else text

    def _loss_findings(self, judgement: CurveVerdict) -> Iterator[Finding]:
        window, steps = self.window, len(self.steps)
        text, step, data = self._said(judgement.text), judgement.step, judgement.data
        phase = window.phase_at(step) if step is not None else ""
        if phase:
            text = f"{text} (phase {phase})"
        rate = f"learning_rate ({window.case.full.learning_rate:g})"
        hint, rate = "", f"the {rate} of stage {window.name}" if window.span else rate
        if judgement.verdict == "unstable":
            hint = f"reduce {rate}, or revisit what is new in the recipe"
        if judgement.reason == "no-progress" and not window.first_step:  # a later stage begins where learning was done
            hint = f"try a lower {rate}, and look at labels and loss: what learns nothing is stable too"
        if self._trace.postmortem and judgement.verdict == "unstable":
            hint = f"{postmortem(self._trace.postmortem)}; or else reduce {rate}"
        finite, trend = window.id("finite"), window.id("loss-trend")
        if judgement.reason == "non-finite":
            yield Finding(id=finite, status="fail", reason="non-finite", text=text, step=step, hint=hint, data=data)
            return
        if not math.isfinite(self._parameter_norm):
            last = window.first_step + steps - 1
            broken = self._said(f"the norm of the parameters is {self._parameter_norm} after step {last}")
            yield Finding(id=finite, status="fail", reason="non-finite", text=broken, step=last, hint=hint)
        elif steps:
            notes = "".join(f"; {note}" for note in judgement.notes)
            whole = f"{steps} steps: every loss term, gradient norm and parameter is finite{notes}"
            yield Finding(id=finite, status="pass", text=whole)
        if self.is_wired(judgement):
            wired = self._said(f"{steps} steps ran; a wiring run is never a verdict")
            yield Finding(id=trend, status="not-checked", reason="wiring", text=wired)
            return
        warned = judgement.verdict == "promote" and judgement.reason
        status: Status = "warn" if warned else STATUS[judgement.verdict]
        yield Finding(id=trend, status=status, reason=judgement.reason, text=text, step=step, hint=hint, data=data)


def first_evidence_step(window: Window) -> int:
    """The first step of the window, from its own first, whose learning rate is near its peak; 0 if there is none."""
    settings = window.case.settings
    curve = schedules.named(settings.lr_schedule, settings.warmup_steps, settings.max_steps)
    return next((step for step in range(window.steps) if curve(step) >= schedules.EVIDENCE_SHARE), 0)
