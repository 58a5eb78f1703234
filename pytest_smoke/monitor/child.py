"""Run a plan, in a child or here, with the stand listening; whatever breaks becomes the `run` finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from pytest_smoke.errors import ChildDiedError, ChildTimeoutError
from pytest_smoke.events import Command, Crashed, Ended, Event, Saved
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.outcome import Finding
from pytest_smoke.train.checkpoints.layout import LAST_GOOD, TRAINED
from pytest_smoke.train.launch import GRACE_SECONDS, Child, child_of
from pytest_smoke.train.plan import RunPlan


class Listener(Protocol):
    """Takes a run's records, and has the parent's word."""

    @property
    def ended(self) -> Ended | None: ...
    @property
    def crashed(self) -> Crashed | None: ...
    @property
    def saved(self) -> Sequence[Saved]: ...
    @property
    def steps(self) -> int: ...
    @property
    def complete(self) -> bool: ...
    @property
    def doing(self) -> str: ...
    @property
    def held_by(self) -> str | None: ...
    @property
    def decided_by(self) -> str: ...
    def receive(self, records: list[Event]) -> None: ...
    def command(self) -> tuple[Command | None] | None: ...


L = TypeVar("L", bound=Listener)
Watch = Callable[[RunMonitor], None]
"""Called after every chunk of records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessResult:
    """How a run ended."""

    finding: Finding
    output: str = ""
    """Newest lines of its output, or its traceback, where it broke off."""
    error: Exception | None = None
    """What the task raised in this process; always None for a child."""


def run_in_child(
    plan: RunPlan, monitor: L, timeout_seconds: float | None, watch: Callable[[L], None] | None
) -> ProcessResult:
    """Run `plan` in a process of its own, and kill it if it stays silent for too long."""
    with child_of(plan) as child:
        try:
            _listen(child, monitor, timeout_seconds, watch, plan)
        except ChildDiedError as gone:
            return ProcessResult(
                finding=_broke(monitor, "crash", f"the run's process ended early: {gone}"), output=child.last_lines()
            )
        except ChildTimeoutError:
            text = f"the run said nothing for {timeout_seconds:g} s (--smoke-timeout) and was killed"
            child.dump_stacks()
            return ProcessResult(finding=_broke(monitor, "hang", text), output=child.last_lines())
        if monitor.crashed is None and monitor.ended is None:
            return ProcessResult(
                finding=_broke(monitor, "crash", "the run's process left without a word"), output=child.last_lines()
            )
        ran = _ran(monitor)
        return replace(ran, output=child.last_lines()) if monitor.crashed is not None else ran


def run_here(plan: RunPlan, monitor: RunMonitor, watch: Watch | None) -> ProcessResult:
    """Run `plan` in this process, so that a debugger can follow."""
    from pytest_smoke.train.crash import crash_of  # torch in this process, because it was asked for
    from pytest_smoke.train.worker import rehearse

    try:
        rehearse(plan, _Here(monitor, watch))
    except (Exception, SystemExit) as error:
        monitor.receive([crash_of(error, plan.root)])
        ran = _ran(monitor)
        return replace(ran, error=error if isinstance(error, Exception) else None)
    return _ran(monitor)


class _Here:
    """The channel of a run in this process: records go straight to the stand."""

    def __init__(self, monitor: RunMonitor, watch: Watch | None) -> None:
        self._monitor, self._watch = monitor, watch
        self._command: Command | None = None

    def send(self, records: list[Event]) -> None:
        self._monitor.receive(records)
        command = self._monitor.command()
        self._command = command[0] if command else self._command
        if self._watch:
            self._watch(self._monitor)

    def poll(self, *, wait: bool = False) -> Command | None:
        said, self._command = self._command, None
        return said


def _listen(
    child: Child, monitor: L, timeout_seconds: float | None, watch: Callable[[L], None] | None, plan: RunPlan
) -> None:
    """A run that made every step writes a checkpoint after it has ended, and takes as long as a large model takes."""
    while True:
        written = plan.saving.folder is None or any(one.kind in (TRAINED, LAST_GOOD) for one in monitor.saved)
        settled = monitor.ended is not None and (written or monitor.ended.steps < plan.run_steps)
        try:
            records = child.receive(GRACE_SECONDS if settled else timeout_seconds)
        except (ChildDiedError, ChildTimeoutError):
            if monitor.ended is not None:
                return  # what a process does on its way out (a prefetcher that never ends) is no part of the run
            raise
        if records is None:
            return
        monitor.receive(records)
        command = monitor.command()
        if command is not None:
            child.answer(command[0])
        if watch:
            watch(monitor)


def _ran(monitor: Listener) -> ProcessResult:
    if monitor.crashed is not None:
        crashed = monitor.crashed
        finding = _broke(monitor, crashed.reason, crashed.text, crashed.place, crashed.key)
        return ProcessResult(finding=finding, output=crashed.traceback)
    text = f"{monitor.steps} steps ran"
    if monitor.held_by is not None:
        text = f"ended after stage {monitor.held_by} ({monitor.steps} steps): its criteria had decided"
    elif not monitor.complete:
        text = f"stopped after {monitor.steps} steps: {monitor.decided_by} had decided"
    return ProcessResult(finding=Finding(id="run", status="pass", text=text))


def _broke(monitor: Listener, reason: str, text: str, place: str = "", key: str = "") -> Finding:
    last = monitor.steps - 1 if monitor.steps else None
    when = "before its first step" if last is None else f"after step {last}{monitor.doing}"
    at = f" at {place}" if place else ""
    data = {"place": place, "key": key}
    return Finding(id="run", status="fail", reason=reason, text=f"{text}{at} ({when})", step=last, data=data)
