"""Run a plan, in a child or here, with the stand listening; whatever breaks becomes the `run` finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pytest_smoke.conduct.stand import Stand
from pytest_smoke.judge.finding import Finding
from pytest_smoke.run.launch import GRACE_SECONDS, Child, Gone, Silent, child_of
from pytest_smoke.run.plan import RunPlan
from pytest_smoke.run.records import Record, Word

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


def run_in_child(plan: RunPlan, stand: Stand, timeout_seconds: float | None, watch: Watch | None) -> Ran:
    """Run `plan` in a process of its own, and kill it if it stays silent for too long."""
    with child_of(plan) as child:
        try:
            _listen(child, stand, timeout_seconds, watch)
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
    from pytest_smoke.run.crash import crash_of  # torch in this process, because it was asked for
    from pytest_smoke.run.worker import rehearse

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


def _listen(child: Child, stand: Stand, timeout_seconds: float | None, watch: Watch | None) -> None:
    while True:
        done = stand.ended is not None
        try:
            records = child.receive(GRACE_SECONDS if done else timeout_seconds)
        except (Gone, Silent):
            if done:  # what a process does on its way out (a prefetcher that never ends) is no part of the run
                return
            raise
        if records is None:
            return
        stand.receive(records)
        word = stand.word()
        if word is not None:
            child.answer(word[0])
        if watch:
            watch(stand)


def _ran(stand: Stand) -> Ran:
    if stand.crashed is not None:
        crashed = stand.crashed
        return Ran(finding=_broke(stand, crashed.reason, crashed.text, crashed.place), output=crashed.traceback)
    text = f"{stand.steps} steps ran"
    if stand.held_by is not None:
        text = f"ended after stage {stand.held_by} ({stand.steps} steps): its criteria had decided"
    elif not stand.complete:
        text = f"stopped after {stand.steps} steps: {stand.decided_by} had decided"
    return Ran(finding=Finding(id="run", status="pass", text=text))


def _broke(stand: Stand, reason: str, text: str, place: str = "") -> Finding:
    last = stand.steps - 1 if stand.steps else None
    when = "before its first step" if last is None else f"after step {last}{stand.doing}"
    at = f" at {place}" if place else ""
    return Finding(
        id="run", status="fail", reason=reason, text=f"{text}{at} ({when})", step=last, data={"place": place}
    )
