"""Judges a smoke run while its events arrive, and tells the training process what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pytest_smoke import schedules
from pytest_smoke.criteria import parse
from pytest_smoke.events import (
    Abort,
    Activity,
    BatchDigest,
    Command,
    Continue,
    Crashed,
    EndAfterStage,
    Ended,
    Event,
    ExportProgress,
    Finish,
    Gradients,
    LogSpacing,
    LossDiagnosis,
    NotChecked,
    ParameterNorm,
    PredictionsFailed,
    Restarted,
    Resumed,
    Saved,
    StageEnded,
    Started,
    Step,
    Updates,
)
from pytest_smoke.judge.checks.check import Series, not_made
from pytest_smoke.judge.checks.loss import loss_findings
from pytest_smoke.judge.checks.registry import DEFAULT, Registry
from pytest_smoke.judge.checks.schedule import evidence_needed
from pytest_smoke.judge.checks.stage import stage_finding
from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from pytest_smoke.judge.curve.trend import AlarmDistance
from pytest_smoke.monitor.trace import Trace
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.text import count

E = TypeVar("E", bound=Event)

RATE_ROUNDING = 1e-9
"""Relative error of a learning rate that is computed in another order of operations."""
CHANCE_ROUNDING = 0.01
"""Relative error with which a recipe may write 1 / K, as in 0.33."""


class StageMonitor:
    """Judges the steps of one stage as they arrive."""

    def __init__(self, case: Case, stage: Stage, trace: Trace) -> None:
        self.stage = stage
        self.updates: Updates | None = None
        self.train_seconds: float | None = None
        """Wall time of its steps; None until its end."""
        self.criteria: Finding | None = None
        """Finding of its own criteria; None until its end, and if it has none."""
        self.curve: CurveVerdict | None = None
        """Verdict on its loss, once the run is over; None for a stage that did not start."""
        self.finished = False
        self.is_wiring = case.mode == "wiring"
        self._trace = trace
        self._parameter_norm = 0.0
        self._case = case
        self._spacing: LogSpacing | None = None
        self._judge = self._new_judge()

    def _new_judge(self) -> CurveJudge:
        case, stage, spacing = self._case, self.stage, self._spacing
        first_step = spacing.first_step if spacing is not None else 0
        jumps = [*case.recipe.smoke.expected_jumps, *stage.expected_jumps]
        return CurveJudge(
            planned_points=stage.steps if spacing is None else spacing.planned_points,
            from_scratch=stage.from_scratch,
            expected_jumps=[first_step + jump for jump in jumps],
            peak_lr=stage.full_learning_rate,
            evidence_needed=evidence_needed(case.mode, stage),
            classes=_classes(case),
            is_log=spacing is not None,
        )

    def restart(self, spacing: LogSpacing) -> None:
        """Judge the points of a log from its first one on."""
        self._spacing = spacing
        self._judge = self._new_judge()

    @property
    def steps(self) -> Sequence[Step]:
        """Its steps so far."""
        return self._trace.steps[self.stage.first_step : self.stage.end]

    @property
    def evidence_steps(self) -> int:
        """Its steps at 80 % or more of its peak learning rate."""
        peak = schedules.EVIDENCE_SHARE * self.stage.full_learning_rate
        spacing = self._spacing.every_steps if self._spacing is not None else 1
        near_peak = sum(row.lr is not None and row.lr >= peak * (1 - RATE_ROUNDING) for row in self.steps)
        return min(self.stage.steps, near_peak * spacing)

    @property
    def terms(self) -> list[str]:
        """Names of the loss terms in its steps; phases may have different ones."""
        return list(dict.fromkeys(term for row in self.steps for term in row.terms))

    @property
    def gradients(self) -> list[Gradients]:
        """Its gradient probes."""
        return [probe for probe in self._trace.gradients if self.stage.first_step <= probe.step < self.stage.end]

    @property
    def holds_back(self) -> bool:
        """Whether its criteria failed and no later stage may start."""
        return self.criteria is not None and self.criteria.status == "fail" and not self.stage.continue_on_fail

    def alarm_distance(self) -> AlarmDistance | None:
        """Return how far the loss is from a rise that is detected; None before one is tested, and in a wiring run."""
        return None if self.is_wiring else self._judge.alarm_distance()

    @property
    def is_confirming(self) -> bool:
        """Whether a rise was detected that is yet to be confirmed or rejected."""
        return self._judge.is_confirming

    def on_step(self, row: Step) -> CurveVerdict | None:
        """Judge one step; return a verdict as soon as the loss is unstable."""
        return self._judge.add(
            row.step,
            row.loss,
            probe_loss=self._trace.probe_loss.get(row.step),
            lr=row.lr,
            grad_norm=row.grad_norm,
            terms={**row.terms, "parameter norm": self._parameter_norm},
        )

    def on_parameter_norm(self, norm: float) -> None:
        """Keep the norm of all parameters after the newest step."""
        self._parameter_norm = norm

    def judge_criteria(self, *, next_name: str, baseline: Mapping[str, float] | None) -> None:
        """Judge the stage's own criteria at its end, with steps counted from its first."""
        stage = self.stage
        if not stage.accept:
            return
        series = {
            name: [(step - stage.first_step, value) for step, value in points if stage.first_step <= step < stage.end]
            for name, points in self._trace.series().items()
        }
        judged = [
            parse(text).judge(
                series,
                baseline=baseline,
                steps_run=stage.steps,
                stages={stage.name: (0, stage.steps - 1)},
                steps_per_epoch=stage.steps_per_epoch,
            )
            for text in stage.accept
        ]
        self.criteria = stage_finding(stage, judged, next_name=next_name)

    @property
    def _diagnosis(self) -> LossDiagnosis | None:
        seen = self._trace.diagnosis
        return seen if seen is not None and seen.stage == self.stage.name else None

    def judge_loss(self, *, complete: bool) -> list[Finding]:
        """Return the findings `finite` and `loss-trend`, and keep the verdict on the curve."""
        self.curve = self._judge.finish(ended_early=not complete)
        return list(
            loss_findings(
                self.stage,
                self.curve,
                steps=len(self.steps),
                noun="step" if self._spacing is None else "logged step",
                steps_per_point=1 if self._spacing is None else self._spacing.every_steps,
                parameter_norm=self._parameter_norm,
                postmortem=self._trace.postmortem,
                diagnosis=self._diagnosis,
                wiring=self.is_wiring,
            )
        )


class RunMonitor:
    """Judges one smoke run as its events arrive."""

    def __init__(
        self,
        case: Case,
        *,
        early_stop: bool,
        baseline: Mapping[str, float] | None = None,
        registry: Registry = DEFAULT,
    ) -> None:
        self.case = case
        self.baseline = baseline
        self.registry = registry
        self.trace = Trace()
        self.stages = [StageMonitor(case, stage, self.trace) for stage in case.stages]
        self.started: Started | None = None
        self.ended: Ended | None = None
        self.crashed: Crashed | None = None
        self.saved: list[Saved] = []
        self.digests: dict[int, str] = {}
        """Digest of a step's batches, where the `resume` check compares them."""
        self.seconds_before = 0.0
        """Wall time of the earlier sessions that this run continues."""
        self.restart_reason = ""
        """Why a checkpoint could not be used and the run restarted from step 0."""
        self.predictions_error = ""
        """What the task's `predictions` raised."""
        self.steps_fault = ""
        """How the reported steps differ from 0, 1, 2 and so on; empty if they do not."""
        self.early_findings: dict[str, Finding] = {}
        """Findings made from events, by id."""
        self._early_stop = early_stop
        self._alarm: CurveVerdict | None = None
        self._current = 0
        self._command: Command | None = None
        self._spacing: LogSpacing | None = None
        """At which steps the log of a command has points; None if every step is reported."""
        self._told_to_stop = False
        self._activity: Activity | None = None
        """What the training process does since its newest step; None for training."""
        self._memory = Activity()
        """Newest of them that knows the device's memory."""

    @property
    def steps(self) -> int:
        """Optimizer steps made."""
        if self._spacing is None or not self.trace.steps:
            return len(self.trace.steps)
        if self.ended is not None:
            return self.ended.steps
        return min(self.case.run_steps, self.trace.steps[-1].step - self._spacing.first_step + 1)

    @property
    def complete(self) -> bool:
        """Whether the training process made every planned step."""
        return self.ended is not None and self.ended.steps == self.case.run_steps and not self._stopping

    @property
    def failed_stage(self) -> str | None:
        """The stage whose criteria failed, so that no later one started."""
        return next((view.stage.name for view in self.stages[:-1] if view.holds_back), None)

    @property
    def progress(self) -> str:
        """What the export pipeline started last, for messages; empty before it."""
        newest = self.trace.events(ExportProgress)
        return f", during {newest[-1].stage} of the pipeline: {newest[-1].doing}" if newest else ""

    @property
    def doing(self) -> str:
        """What the training process does now; empty while it trains."""
        exporting = self.trace.events(ExportProgress)
        if exporting and self.ended is None:
            return exporting[-1].doing
        if self.ended is not None:
            return "saving the trained state"
        return self._activity.doing if self._activity is not None else ""

    @property
    def memory_gib(self) -> tuple[float, float | None] | None:
        """Memory that torch has reserved on the accelerator, and that of the device; None if it is not known."""
        known = self._memory
        return None if known.memory_gib is None else (known.memory_gib, known.device_memory_gib)

    @property
    def current_stage(self) -> StageMonitor:
        """The stage of the newest step."""
        return self.stages[self._current]

    @property
    def stopped_because(self) -> str:
        """Why the run was stopped early; empty as long as nothing stops it."""
        if self.steps_fault:
            return self.steps_fault
        if self._alarm is not None:
            return "the loss is unstable" if self._alarm.reason != "non-finite" else "a value is not finite"
        decisive = self._decisive
        return f"the check {decisive.check} failed" if decisive is not None else ""

    def events(self, kind: type[E]) -> Sequence[E]:
        """Return all events of one type, in order."""
        return self.trace.events(kind)

    def series(self) -> Series:
        """Return what a criterion can name."""
        return self.trace.series()

    def on_events(self, events: Sequence[Event]) -> None:
        """Take events in, in order.

        Events of steps that were made after the run was stopped are dropped: how many there are depends on timing, and
        two runs of one recipe must have the same outcome.
        """
        for event in events:
            stopped = self._stopping
            match event:
                case Activity():
                    self._activity = event
                    self._memory = event if event.memory_gib is not None else self._memory
                case Ended():
                    self.ended = event
                    if not stopped and self.failed_stage is None and event.steps != self.steps:
                        made = count(event.steps, "step")
                        self.steps_fault = f"the training process made {made} and reported {self.steps:,} of them"
                    for view in self.stages:
                        view.finished = view.finished or self.complete
                case Crashed():
                    self.crashed = event
                case Saved():
                    self.saved.append(event)
                case Resumed() if event.step != self.steps and not stopped and self.failed_stage is None:
                    self.steps_fault = (
                        f"the run was resumed at step {event.step}, but its first {count(self.steps, 'step')} are known"
                    )
                case Resumed():
                    self.trace.resumed_at.add(event.step)
                    self.seconds_before = event.seconds
                case Restarted():
                    self.restart_reason = event.why
                case BatchDigest():
                    self.digests[event.step] = event.digest
                case LossDiagnosis() | Gradients(postmortem=True) | NotChecked():
                    self.trace.add(event)
                case _ if stopped:
                    pass
                case LogSpacing():
                    self._spacing = event
                    self.trace.clear_log()
                    self.stages[0].restart(event)
                case Step():
                    self._activity = None
                    self._on_step(event)
                case ParameterNorm():
                    self.stages[self._current].on_parameter_norm(event.norm)
                case Started():
                    self.started = event
                case Updates():
                    self.stages[self._current].updates = event
                case StageEnded():
                    self._on_stage_end(event)
                case PredictionsFailed():
                    self.predictions_error = event.text
                case _:
                    self.trace.add(event)
                    findings = self.registry.on_event(event, self)
                    self.early_findings |= {finding.id: finding for finding in findings}

    def take_command(self) -> Command | None:
        """Return what the training process must be told now, each command once; None for nothing yet."""
        if self._told_to_stop:
            return None
        if self._stopping:
            self._told_to_stop = True
            return Abort(last_good_step=self._last_good_step)
        if self.ended:
            self._told_to_stop = True
            return Finish()
        command, self._command = self._command, None
        self._told_to_stop = isinstance(command, EndAfterStage)
        return command

    def judge_loss(self) -> list[Finding]:
        """Return the findings `finite` and `loss-trend` of every stage that started."""
        return [
            finding
            for view in self.stages
            if view is self.stages[0] or view.steps
            for finding in view.judge_loss(complete=self.complete or view.finished)
        ] + [self._not_started(view) for view in self.stages[1:] if not view.steps]

    @property
    def smallest_rise(self) -> float | None:
        """Smallest lasting rise of the loss that would have been seen in every stage, in units of the loss."""
        return self._largest("smallest_rise_loss")

    @property
    def smallest_rise_share(self) -> float | None:
        """The same, as a share of the lowest loss level."""
        return self._largest("smallest_rise")

    def _largest(self, key: str) -> float | None:
        """Return the largest of a number that the verdicts on the curves of all stages have."""
        curves = [view.curve for view in self.stages if view.curve is not None]
        return max((value for curve in curves if (value := curve.data.get(key)) is not None), default=None)

    @property
    def _stopping(self) -> bool:
        """Whether the run is to be stopped; the training process may make further steps before it is told."""
        decided = self._alarm is not None or self._decisive is not None
        return bool(self.steps_fault) or (self._early_stop and decided)

    @property
    def _decisive(self) -> Finding | None:
        """The first failed finding of a check that stops the run."""
        for finding in self.early_findings.values():
            row = self.registry.row(finding)
            if finding.status == "fail" and row is not None and row.stops_run:
                return finding
        return None

    @property
    def _last_good_step(self) -> int | None:
        if self._alarm is None:
            return None
        step: int | None = self._alarm.data["last_good_step"]
        if step is None and self._alarm.reason == "non-finite":
            return 0  # not finite from the first step on: the initial weights show which term it is
        return step

    def _on_step(self, row: Step) -> None:
        if self._spacing is not None:
            self.trace.add(row)
            self._alarm = self._alarm or self.stages[0].on_step(row)
            return
        if row.step != self.steps or row.step >= self.case.run_steps:
            all_made = self.steps == self.case.run_steps
            place = f"after all {count(self.steps, 'step')}" if all_made else f"instead of step {self.steps}"
            self.steps_fault = f"the training process reported step {row.step} {place}"
            return
        self.trace.add(row)
        while row.step >= self.stages[self._current].stage.end:
            self._current += 1
        alarm = self.stages[self._current].on_step(row)
        self._alarm = self._alarm or alarm

    def _on_stage_end(self, event: StageEnded) -> None:
        view, following = self.stages[self._current], self.stages[self._current + 1 :]
        view.train_seconds, view.finished = event.train_seconds, True
        if self.case.mode != "wiring":
            view.judge_criteria(next_name=following[0].stage.name if following else "", baseline=self.baseline)
        if following:
            self._command = EndAfterStage() if view.holds_back else Continue()

    def _not_started(self, view: StageMonitor) -> Finding:
        return not_made(self, view.stage.finding_id("loss-trend"))


def _classes(case: Case) -> int | None:
    """Return the number of classes that a metric's chance level tells: 10 if it is 0.1."""
    for spec in case.recipe.metrics.values():
        if spec.chance and 0 < spec.chance < 1:
            classes = round(1 / spec.chance)
            if abs(classes * spec.chance - 1) < CHANCE_ROUNDING:
                return classes
    return None
