"""Makes the `resume` check: a second training process continues from the first one's checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pytest_smoke.events import BatchDigest, Command, Crashed, Ended, Event, Resumed, Saved, Step
from pytest_smoke.judge.checks.resume import (
    TOLERANCE,
    checkpoint_not_saved,
    resume,
    resume_not_checked,
    resumed_run_failed,
)
from pytest_smoke.monitor.child import run_in_child
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.train.checkpoints.layout import CHECKED, NO_CHECKPOINTS, ResumeCheck
from pytest_smoke.train.plan import RunPlan


class ResumedRun:
    """Listens to the second run. Nobody judges its loss, and it ends by itself."""

    def __init__(self, check: ResumeCheck) -> None:
        self._check = check
        self.rows: list[Step] = []
        self.steps_fault = ""
        self.digests: dict[int, str] = {}
        self.changed: tuple[str, ...] = ()
        self.ended: Ended | None = None
        self.crashed: Crashed | None = None
        self.saved: list[Saved] = []
        self.progress = ""
        self.failed_stage: str | None = None
        self.stopped_because = "it ended early"

    @property
    def steps(self) -> int:
        """The step it has reached, counted in the uninterrupted run."""
        return self._check.step + len(self.rows) if self.rows else 0

    @property
    def complete(self) -> bool:
        """Whether it made every step."""
        return len(self.rows) == self._check.steps

    def on_events(self, events: Sequence[Event]) -> None:
        """Take events in."""
        for event in events:
            match event:
                case Step():
                    expected = self._check.step + len(self.rows)
                    if event.step != expected and not self.steps_fault:
                        self.steps_fault = f"it reported step {event.step} instead of step {expected}"
                    self.rows.append(event)
                case BatchDigest():
                    self.digests[event.step] = event.digest
                case Resumed():
                    self.changed = event.changed
                case Ended():
                    self.ended = event
                case Crashed():
                    self.crashed = event

    def take_command(self) -> Command | None:
        """Return None: there is nothing to command."""
        return None


def check_resume(case: Case, plan: RunPlan, monitor: RunMonitor, timeout_seconds: float | None) -> list[Finding]:
    """Return the finding `resume` if the recipe asks for it, else nothing. `plan` and `monitor` are the first run's."""
    if not case.recipe.checks.resume:
        return []
    check = plan.checkpoints.check
    if check is None:
        return [resume_not_checked(f"not checked: a run of {case.run_steps} steps is too short to be cut in two")]
    if not monitor.complete:
        return [resume_not_checked("not checked: the run did not reach its end")]
    saved = next((one for one in monitor.saved if one.kind == CHECKED and one.step == check.step), None)
    if saved is None:
        text = f"not checked: an earlier session made step {check.step} and did not save the state before it"
        return [resume_not_checked(text)]
    if saved.problem:
        return [checkpoint_not_saved(check.step, saved.problem)]
    second = ResumedRun(check)
    checkpoints = replace(NO_CHECKPOINTS, check=replace(check, is_resume_run=True))
    resumed_plan = replace(plan, predictions=None, checkpoints=checkpoints)
    result = run_in_child(resumed_plan, second, timeout_seconds, None)
    if result.finding.status == "fail":
        return [resumed_run_failed(check.step, result.finding.text, result.output)]
    # Several processes may add gradients up in another order after a start: the sums of their parts are cut otherwise.
    is_exact = monitor.started is not None and monitor.started.device == "cpu" and plan.processes == 1
    finding = resume(
        monitor.trace.steps,
        second.rows,
        planned=check.steps,
        batch_digests=(monitor.digests, second.digests),
        changed=second.changed,
        tolerance=0.0 if is_exact else TOLERANCE[plan.precision],
    )
    return [finding]
