"""Run a plan, in a child or here, with the stand listening; whatever breaks becomes the `run` finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from pytest_smoke.events import Crashed, Ended, Record, Saved, Word
from pytest_smoke.monitor.run_monitor import Stand
from pytest_smoke.outcome import Finding
from pytest_smoke.train.checkpoints.layout import LAST_GOOD, TRAINED
from pytest_smoke.train.launch import GRACE_SECONDS, Child, Gone, Silent, child_of
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
    def receive(self, records: list[Record]) -> None: ...
    def word(self) -> tuple[Word | None] | None: ...


L = TypeVar("L", bound=Listener)
Watch = Callable[[Stand], None]
"""Called after every chunk of records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a run ended."""

    finding: Finding
    output: str = ""
    """Newest lines of its output, or its traceback, where it broke off."""
    error: Exception | None = None
    """What the task raised in this process; always None for a child."""


def run_in_child(plan: RunPlan, stand: L, timeout_seconds: float | None, watch: Callable[[L], None] | None) -> Ran:
    """Run `plan` in a process of its own, and kill it if it stays silent for too long."""
    with child_of(plan) as child:
        try:
            _listen(child, stand, timeout_seconds, watch, plan)
        except Gone as gone:
            return Ran(
                finding=_broke(stand, "crash", f"the run's process ended early: {gone}"), output=child.last_lines()
            )
        except Silent:
            text = f"the run said nothing for {timeout_seconds:g} s (--smoke-timeout) and was killed"
            child.dump_stacks()
            return Ran(finding=_broke(stand, "hang", text), output=child.last_lines())
        if stand.crashed is None and stand.ended is None:
            return Ran(
                finding=_broke(stand, "crash", "the run's process left without a word"), output=child.last_lines()
            )
        ran = _ran(stand)
        return replace(ran, output=child.last_lines()) if stand.crashed is not None else ran


def run_here(plan: RunPlan, stand: Stand, watch: Watch | None) -> Ran:
    """Run `plan` in this process, so that a debugger can follow."""
    from pytest_smoke.train.crash import crash_of  # torch in this process, because it was asked for
    from pytest_smoke.train.worker import rehearse

    try:
        rehearse(plan, _Here(stand, watch))
    except (Exception, SystemExit) as error:
        stand.receive([crash_of(error, plan.root)])
        ran = _ran(stand)
        return replace(ran, error=error if isinstance(error, Exception) else None)
    return _ran(stand)


class _Here:
    """The channel of a run in this process: records go straight to the stand."""

    def __init__(self, stand: Stand, watch: Watch | None) -> None:
        self._stand, self._watch = stand, watch
        self._word: Word | None = None

    def send(self, records: list[Record]) -> None:
        self._stand.receive(records)
        word = self._stand.word()
        self._word = word[0] if word else self._word
        if self._watch:
            self._watch(self._stand)

    def poll(self, *, wait: bool = False) -> Word | None:
        said, self._word = self._word, None
        return said


def _listen(
    child: Child, stand: L, timeout_seconds: float | None, watch: Callable[[L], None] | None, plan: RunPlan
) -> None:
    """A run that made every step writes a checkpoint after it has ended, and takes as long as a large model takes."""
    while True:
        written = plan.saving.folder is None or any(one.kind in (TRAINED, LAST_GOOD) for one in stand.saved)
        settled = stand.ended is not None and (written or stand.ended.steps < plan.run_steps)
        try:
            records = child.receive(GRACE_SECONDS if settled else timeout_seconds)
        except (Gone, Silent):
            if stand.ended is not None:
                return  # what a process does on its way out (a prefetcher that never ends) is no part of the run
            raise
        if records is None:
            return
        stand.receive(records)
        word = stand.word()
        if word is not None:
            child.answer(word[0])
        if watch:
            watch(stand)


def _ran(stand: Listener) -> Ran:
    if stand.crashed is not None:
        crashed = stand.crashed
        finding = _broke(stand, crashed.reason, crashed.text, crashed.place, crashed.key)
        return Ran(finding=finding, output=crashed.traceback)
    text = f"{stand.steps} steps ran"
    if stand.held_by is not None:
        text = f"ended after stage {stand.held_by} ({stand.steps} steps): its criteria had decided"
    elif not stand.complete:
        text = f"stopped after {stand.steps} steps: {stand.decided_by} had decided"
    return Ran(finding=Finding(id="run", status="pass", text=text))


def _broke(stand: Listener, reason: str, text: str, place: str = "", key: str = "") -> Finding:
    last = stand.steps - 1 if stand.steps else None
    when = "before its first step" if last is None else f"after step {last}{stand.doing}"
    at = f" at {place}" if place else ""
    data = {"place": place, "key": key}
    return Finding(id="run", status="fail", reason=reason, text=f"{text}{at} ({when})", step=last, data=data)
