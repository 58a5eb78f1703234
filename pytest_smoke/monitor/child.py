"""Runs a plan, in a training process or in this one, with a listener; whatever goes wrong becomes the `run` finding."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

from pytest_smoke.errors import ChildDiedError, ChildTimeoutError
from pytest_smoke.events import Command, Crashed, Ended, Event, Saved
from pytest_smoke.interruption import INTERRUPTION
from pytest_smoke.monitor.known_errors import explained
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.outcome import Finding
from pytest_smoke.plain import plain_fields
from pytest_smoke.text import count, listed, seconds
from pytest_smoke.train.checkpoints.layout import LAST_GOOD, TRAINED
from pytest_smoke.train.launch import GRACE_SECONDS, Child, child_of
from pytest_smoke.train.plan import RunPlan


class Listener(Protocol):
    """Receives a run's events and gives it commands."""

    @property
    def ended(self) -> Ended | None:
        """The event of the last step; None before it."""

    @property
    def crashed(self) -> Crashed | None:
        """The exception that ended the run; None without one."""

    @property
    def saved(self) -> Sequence[Saved]:
        """Checkpoints that were written."""

    @property
    def steps(self) -> int:
        """Optimizer steps made."""

    @property
    def steps_fault(self) -> str:
        """How the reported steps differ from those that were expected; empty if they do not."""

    @property
    def complete(self) -> bool:
        """Whether every planned step was made."""

    @property
    def progress(self) -> str:
        """What the run does after its last step, for messages."""

    @property
    def failed_stage(self) -> str | None:
        """The stage whose criteria ended the run."""

    @property
    def stopped_because(self) -> str:
        """Why the run was stopped early."""

    def on_events(self, events: Sequence[Event]) -> None:
        """Take events in, in order."""

    def take_command(self) -> Command | None:
        """Return what the training process must be told now, each command once; None for nothing yet."""


class RunWatcher(Protocol):
    """Follows a run for those who look at it."""

    def phase(self, doing: str) -> None:
        """Take in what the run does before its training process reports something, or after it has ended."""

    def on_events(self, monitor: RunMonitor) -> None:
        """Take in what the training process has reported. Also called about once a second while it is silent."""


L = TypeVar("L", bound=Listener)
Watch = Callable[[RunMonitor], None]
"""Called after every chunk of events, and about once a second while there are none."""


DRAIN_SECONDS = 0.2
"""Longest time in which events are taken in after an interruption: a pipe holds far less than that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessResult:
    """How a run ended."""

    finding: Finding
    output: str = ""
    """Newest lines of its output, or its traceback, if it failed."""
    error: Exception | None = None
    """What the task raised in this process; always None for a training process."""


def run_in_child(
    plan: RunPlan, monitor: L, timeout_seconds: float | None, watch: Callable[[L], None] | None
) -> ProcessResult:
    """Run `plan` in a training process, and kill it if it reports nothing for `timeout_seconds`.

    Raises OSError if no process can be started.
    """
    with child_of(plan) as child:
        try:
            try:
                _listen(child, monitor, timeout_seconds, watch, plan)
            except KeyboardInterrupt:
                _take_what_has_arrived(child, monitor)
                raise
        except ChildDiedError as died:
            if monitor.steps_fault:
                return result_of(monitor)
            text = f"the training process failed: {died}"
            finding = failed_run(monitor, "crash", text, begun=child.steps_begun)
            return ProcessResult(finding=finding, output=child.last_lines())
        except ChildTimeoutError:
            text = f"the training process made no progress for {seconds(timeout_seconds or 0.0)} and was killed"
            hint = ""
            events = child.dump_stacks()
            place = child.place(plan.root)
            for event in events:
                if isinstance(event, Crashed) and event.reason == "hang":
                    text, place, hint = f"{text}: {event.text}", event.place, event.hint
            hint = hint or "raise --smoke-timeout if the task needs longer between two steps"
            finding = failed_run(monitor, "hang", text, place=place, hint=hint, begun=child.steps_begun)
            return ProcessResult(finding=finding, output=child.last_lines())
        if monitor.crashed is None and monitor.ended is None and not monitor.steps_fault:
            text = "the training process ended without reporting a result"
            finding = failed_run(monitor, "crash", text, begun=child.steps_begun)
            return ProcessResult(finding=finding, output=child.last_lines())
        if monitor.crashed is not None:
            output = child.last_lines()
            return replace(result_of(monitor, output, plan.processes, begun=child.steps_begun), output=output)
        return result_of(monitor)


def run_here(plan: RunPlan, monitor: RunMonitor, watch: Watch | None) -> ProcessResult:
    """Run `plan` in this process, so that a debugger can follow it; what the task changes in it is restored."""
    from pytest_smoke.train.crash import crash_of  # imports torch into the pytest process: --smoke-isolation none
    from pytest_smoke.train.global_state import restored_globals
    from pytest_smoke.train.worker import train

    channel = _InProcessChannel(monitor, watch)
    with restored_globals(plan.root) as changed:
        try:
            train(plan, channel)
        except KeyboardInterrupt:  # Ctrl-C
            raise
        except BaseException as error:  # also what pytest.skip and the like raise in a task
            monitor.on_events([plain_fields(crash_of(error, plan.root))])
            result = result_of(monitor, begun=channel.steps_begun)
            return replace(result, error=error if isinstance(error, Exception) else None)
    result = result_of(monitor)
    if not changed or result.finding.status != "pass":
        return result
    names = listed(dict.fromkeys(changed))
    text = f"{result.finding.text}; the task left changed what other smoke runs use, and it was restored: {names}"
    hint = "restore it in the task: in a process of its own, as without --smoke-isolation none, nobody else sees it"
    finding = replace(result.finding, status="warn", reason="global-state-changed", text=text, hint=hint)
    return replace(result, finding=finding)


class _InProcessChannel:
    """Hands events straight to the monitor."""

    def __init__(self, monitor: RunMonitor, watch: Watch | None) -> None:
        self._monitor, self._watch = monitor, watch
        self._command: Command | None = None
        self.steps_begun = 0
        """Steps that have begun, also those that could not be reported."""

    def send(self, events: list[Event]) -> None:
        self._monitor.on_events(events)
        self._command = self._monitor.take_command() or self._command
        if self._watch:
            self._watch(self._monitor)

    def poll(self) -> Command | None:
        command, self._command = self._command, None
        return command

    def wait(self) -> Command:
        command = self.poll()
        assert command is not None, "the monitor answers the end of a stage and of the run at once"
        return command

    def begin(self, step: int) -> None:
        """Note that a step begins."""
        self.steps_begun = step + 1


def _listen(
    child: Child, monitor: L, timeout_seconds: float | None, watch: Callable[[L], None] | None, plan: RunPlan
) -> None:
    """Pass events on until the training process leaves.

    A run that made every step still writes a checkpoint, which takes as long as a large model takes.
    """
    if watch:
        child.on_silence = partial(watch, monitor)
    while True:
        written = plan.checkpoints.folder is None or any(one.kind in (TRAINED, LAST_GOOD) for one in monitor.saved)
        settled = monitor.ended is not None and (written or monitor.ended.steps < plan.run_steps)
        try:
            events = child.receive(GRACE_SECONDS if settled else timeout_seconds)
        except (ChildDiedError, ChildTimeoutError):
            if monitor.ended is not None or monitor.crashed is not None:
                return  # the run is over: how the process ends (a prefetcher keeps it, cleaning up fails) is no result
            raise
        if events is None:
            return
        with INTERRUPTION.held():  # half a chunk would look like steps out of order
            monitor.on_events(events)
            command = monitor.take_command()
        if command is not None:
            child.send(command)
        if watch:
            watch(monitor)


def _take_what_has_arrived(child: Child, monitor: Listener) -> None:
    """Take in the events that were sent before an interruption; the training process may still send further ones."""
    deadline = time.monotonic() + DRAIN_SECONDS
    with contextlib.suppress(ChildDiedError, ChildTimeoutError):
        while time.monotonic() < deadline and (events := child.receive(DRAIN_SECONDS / 10)) is not None:
            monitor.on_events(events)


def result_of(monitor: Listener, output: str = "", processes: int = 1, *, begun: int = 0) -> ProcessResult:
    """Return how a run ended, from what it reported.

    `output`: what its processes have printed, if they failed. `begun`: as for `failed_run`.
    """
    if monitor.steps_fault:
        return ProcessResult(finding=failed_run(monitor, "steps-out-of-order", monitor.steps_fault))
    if monitor.crashed is not None:
        crashed = explained(monitor.crashed, output=output, processes=processes)
        finding = failed_run(
            monitor,
            crashed.reason,
            crashed.summary,
            place=crashed.place,
            key=crashed.key,
            hint=crashed.hint,
            begun=begun,
        )
        return ProcessResult(finding=finding, output=crashed.traceback)
    text = f"{count(monitor.steps, 'step')} ran"
    if monitor.failed_stage is not None:
        text = f"stopped after stage {monitor.failed_stage} ({count(monitor.steps, 'step')}): its criteria failed"
    elif not monitor.complete:
        text = f"stopped after {count(monitor.steps, 'step')}: {monitor.stopped_because}"
    return ProcessResult(finding=Finding(id="run", status="pass", text=text))


def failed_run(
    monitor: Listener,
    reason: str,
    text: str,
    *,
    place: str = "",
    key: str = "",
    hint: str = "",
    begun: int = 0,
) -> Finding:
    """Return the finding `run` of a run that failed.

    `begun`: steps that had begun; 0 if that is not known. All but the last one were made. But if the process reported
    an exception and could not report the figures of these steps, its device failed, and in which of them is not known.
    """
    reported = monitor.steps
    is_device_lost = monitor.crashed is not None and begun > reported + 1
    made = reported if is_device_lost else max(begun - 1, reported)
    last = made - 1 if made else None
    when = "before the first step" if last is None else f"after step {last}{monitor.progress}"
    if is_device_lost:
        when = f"in step {begun - 1} or before it: the figures from step {reported} on were lost with the device"
    elif made > reported:
        when += f"; the figures from step {reported} on were lost"
    at = f" at {place}" if place else ""
    return Finding(
        id="run",
        status="fail",
        reason=reason,
        text=f"{text}{at} ({when})",
        step=last,
        hint=hint,
        place=place,
        key=key,
    )
