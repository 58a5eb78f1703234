"""Conduct the `resume` check: a second process goes on from the first one's checkpoint."""

from __future__ import annotations

from dataclasses import replace

from pytest_smoke.events import BatchDigest, Command, Crashed, Ended, Event, Resumed, Saved, Step
from pytest_smoke.judge.checks.resume import TOLERANCE, resume
from pytest_smoke.monitor.child import run_in_child
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.train.checkpoints.layout import CHECKED, NOTHING, Check
from pytest_smoke.train.plan import RunPlan


class Second:
    """Hears the second run."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self.rows: list[Step] = []
        self.digests: dict[int, str] = {}
        self.changed: tuple[str, ...] = ()
        self.ended: Ended | None = None
        self.crashed: Crashed | None = None
        self.saved: list[Saved] = []
        self.doing = ""
        self.held_by: str | None = None
        self.decided_by = ""

    @property
    def steps(self) -> int:
        """The step it has come to."""
        return self._check.step + len(self.rows) if self.rows else 0

    @property
    def complete(self) -> bool:
        """Whether it made every step."""
        return len(self.rows) == self._check.steps

    def receive(self, records: list[Event]) -> None:
        """Take records in."""
        for record in records:
            match record:
                case Step():
                    self.rows.append(record)
                case BatchDigest():
                    self.digests[record.step] = record.digest
                case Resumed():
                    self.changed = record.changed
                case Ended():
                    self.ended = record
                case Crashed():
                    self.crashed = record

    def command(self) -> tuple[Command | None] | None:
        """Nothing: nobody judges its loss, and it leaves by itself."""
        return None


def begun(monitor: RunMonitor) -> list[Finding]:
    """What is said of a smoke that an earlier session had begun."""
    if monitor.restart_reason:
        text = f"begun anew, at step 0: {monitor.restart_reason}"
        return [Finding(id="resumed", status="warn", reason="anew", text=text)]
    cuts = sorted(monitor.trace.cuts)
    if not cuts:
        return []
    text = f"cut off and resumed at step{'s' if len(cuts) > 1 else ''} {', '.join(map(str, cuts))}"
    return [Finding(id="resumed", status="pass", text=text, step=cuts[-1], observed=cuts)]


def check_resume(case: Case, plan: RunPlan, monitor: RunMonitor, timeout_seconds: float | None) -> list[Finding]:
    """The finding of a smoke whose recipe asks for it, else none. `plan` and `stand` are the first run's."""
    if not case.recipe.checks.resume:
        return []
    check = plan.saving.check
    if check is None:
        return [_not_checked(f"{case.run_steps} steps are too few to cut the run between two of them")]
    if not monitor.complete:
        return [_not_checked("the run did not reach its end")]
    saved = next((one for one in monitor.saved if one.kind == CHECKED and one.step == check.step), None)
    if saved is None:
        return [
            _not_checked(f"the run was resumed after step {check.step}, whose state an earlier session did not save")
        ]
    if saved.problem:
        text = f"the state before step {check.step} could not be saved: {saved.problem}"
        return [Finding(id="resume", status="fail", reason="unsaved", text=text, step=check.step)]
    second = Second(check)
    again = replace(plan, predictions=None, saving=replace(NOTHING, check=replace(check, again=True)))
    ran = run_in_child(again, second, timeout_seconds, None)
    if ran.finding.status == "fail":
        text = f"the resumed run broke off: {ran.finding.text}"
        return [Finding(id="resume", status="fail", reason="crash", text=text, step=check.step, hint=ran.output)]
    on_cpu = monitor.started is not None and monitor.started.device == "cpu"
    found = resume(
        monitor.trace.steps,
        second.rows,
        planned=check.steps,
        drawn=(monitor.digests, second.digests),
        changed=second.changed,
        tolerance=0.0 if on_cpu else TOLERANCE[plan.precision],
    )
    return [found]


def _not_checked(text: str) -> Finding:
    return Finding(id="resume", status="not-checked", reason="cut", text=text)
