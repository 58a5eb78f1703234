"""The judge's stand: records in, a word to the child."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_smoke.events import (
    Abort,
    BatchDigest,
    BatchEquivalence,
    Command,
    Continue,
    Crashed,
    EndAfterStage,
    Ended,
    Event,
    ExportProgress,
    ExportStage,
    Gradients,
    Metrics,
    ParameterNorm,
    PredictionsFailed,
    ProbeLoss,
    Restarted,
    Resumed,
    Saved,
    SourceCounts,
    StageEnded,
    Started,
    Step,
    Updates,
)
from pytest_smoke.judge.checks.accumulation import accumulation
from pytest_smoke.judge.checks.sampled_mix import mix_drawn
from pytest_smoke.judge.curve.curve_judge import CurveVerdict
from pytest_smoke.judge.verdict import check_of
from pytest_smoke.monitor.stage_monitor import StageMonitor
from pytest_smoke.monitor.trace import Trace
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.windows import windows_of

DECIDES = {"mix-drawn": "the drawn mix", "accumulation": "the size of its micro-batches"}
"""What had decided, where one of these checks ended a run."""


class RunMonitor:
    """Judges one smoke as its records arrive."""

    def __init__(
        self,
        case: Case,
        *,
        early_stop: bool,
        mix_shares: Mapping[str, float] | None = None,
        baseline: Mapping[str, float] | None = None,
    ) -> None:
        self.trace = Trace()
        self.started: Started | None = None
        self.ended: Ended | None = None
        self.crashed: Crashed | None = None
        self.stage_monitors = [StageMonitor(window, self.trace) for window in windows_of(case)]
        """One a stage, or one."""
        self.saved: list[Saved] = []
        self.digests: dict[int, str] = {}
        """Of a step's batches, where the `resume` check compares them."""
        self.seconds_before = 0.0
        """Wall time of earlier sessions that this run goes on from."""
        self.restart_reason = ""
        """Why the run could not go on from the checkpoint that there was."""
        self.predictions_error = ""
        """What the task's predictions raised."""
        self.case = case
        self.baseline = baseline
        self.fairness: dict[str, Finding] = {}
        """What only a run can show of its fairness, by id: `mix-drawn`, where the task says which sources its samples
        are from, and `accumulation`, where its micro-batches have another size than the full run's."""
        self.pipeline: list[ExportStage] = []
        self._early_stop = early_stop
        self._mix_shares = mix_shares
        self._cuts: list[BatchEquivalence] = []
        self._doing: ExportProgress | None = None
        self._alarm: CurveVerdict | None = None
        self._answered = False
        self._at = 0
        self._waiting = False
        """Whether the child waits at the end of a stage."""

    @property
    def steps(self) -> int:
        """Optimizer steps seen."""
        return len(self.trace.steps)

    @property
    def complete(self) -> bool:
        """Whether the child ran every planned step."""
        return self.ended is not None and self.ended.steps == self.case.run_steps and not self._called_off

    def whole(self, stage_monitor: StageMonitor) -> bool:
        """Whether the window ran to its end."""
        return self.complete or stage_monitor.train_seconds is not None

    @property
    def doing(self) -> str:
        """`, in the pipeline's export: torch.onnx.export`, what was begun last; empty before the pipeline."""
        return f", in the pipeline's {self._doing.stage}: {self._doing.doing}" if self._doing else ""

    @property
    def held_by(self) -> str | None:
        """The stage whose criteria failed, so that no later one started; None where all went on."""
        return next(
            (stage_monitor.window.name for stage_monitor in self.stage_monitors[:-1] if stage_monitor.holds_back), None
        )

    @property
    def _called_off(self) -> bool:
        """Whether the run is doomed and to be stopped; the child may train on, or end, before it hears."""
        return self._early_stop and bool(self.decided_by)

    @property
    def decided_by(self) -> str:
        """What has doomed the run; empty while nothing has."""
        if self._alarm is not None:
            return "the loss"
        return next((DECIDES[check_of(id)] for id, finding in self.fairness.items() if finding.status == "fail"), "")

    @property
    def _stage_monitor(self) -> StageMonitor:
        return self.stage_monitors[self._at]

    def receive(self, records: list[Event]) -> None:
        """Take records in, in order."""
        for record in records:
            late = self._called_off
            match record:
                case Ended():
                    self.ended = record
                case Crashed():
                    self.crashed = record
                case Saved():
                    self.saved.append(record)
                case Resumed():
                    self.trace.cuts.add(record.step)
                    self.seconds_before = record.seconds
                case Restarted():
                    self.restart_reason = record.why
                case BatchDigest():
                    self.digests[record.step] = record.digest
                case Gradients() if record.postmortem or not late:
                    self.trace.add(record)
                case _ if late:
                    pass  # what it did before it heard: how much is a matter of timing, not of the recipe
                case Step():
                    self._on_step(record)
                case ProbeLoss() | Metrics():
                    self.trace.add(record)
                case ParameterNorm():
                    self._stage_monitor.parameters(record.norm)
                case Started():
                    self.started = record
                case Updates():
                    self._stage_monitor.updates = record
                case StageEnded():
                    self._end_stage(record)
                case SourceCounts():
                    mix = self.case.recipe.mix
                    self.fairness["mix-drawn"] = mix_drawn(record, self._mix_shares, mix, step=record.step)
                case BatchEquivalence():
                    self._cuts.append(record)
                    self.fairness |= {finding.id: finding for finding in accumulation(self._cuts)}
                case PredictionsFailed():
                    self.predictions_error = record.text
                case ExportProgress():
                    self._doing = record
                case ExportStage():
                    self.pipeline.append(record)

    def command(self) -> tuple[Command | None] | None:
        """What the child must be told now, once: `(Stop,)`, `(None,)` after its last step, `(Go,)` or `(Halt,)` after
        another stage; None for nothing."""
        if self._answered:
            return None
        if self._called_off or self.ended:
            self._answered = True
            if self._alarm is None:
                return (Abort(last_good_step=None) if self._called_off else None,)
            good = self._alarm.data["last_good_step"]
            if good is None and self._alarm.reason == "non-finite":
                good = 0  # from the first step on: the initial weights show which term it is
            return (Abort(last_good_step=good),)
        if not self._waiting:
            return None
        self._waiting = False
        self._answered = self._stage_monitor.holds_back
        return (EndAfterStage() if self._answered else Continue(),)

    def _on_step(self, row: Step) -> None:
        self.trace.add(row)
        while row.step >= self._stage_monitor.window.end:
            self._at += 1
        alarm = self._stage_monitor.on_step(row)
        self._alarm = self._alarm or alarm

    def _end_stage(self, record: StageEnded) -> None:
        stage_monitor, following = self._stage_monitor, self.stage_monitors[self._at + 1 :]
        stage_monitor.train_seconds = record.train_seconds
        if self.case.mode != "wiring":
            next_name = following[0].window.name if following else None
            stage_monitor.judge_stage(next_name=next_name, baseline=self.baseline)
        self._waiting = bool(following)
