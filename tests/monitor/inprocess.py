"""Trains a task in this process and judges it, as a smoke run does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pytest_smoke.events import Command, Event
from pytest_smoke.judge.verdict import decide
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.outcome import Finding, Verdict
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Recipe
from pytest_smoke.train.device import seed_all
from pytest_smoke.train.loop import Loop
from pytest_smoke.train.plan import RunPlan


class Direct:
    """Hands events straight to the monitor, and its commands back."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.monitor = monitor

    def send(self, events: list[Event]) -> None:
        self.monitor.on_events(events)

    def poll(self) -> Command | None:
        return self.monitor.take_command()

    def wait(self) -> Command:
        command = self.poll()
        assert command is not None
        return command

    def begin(self, step: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """What came out."""

    verdict: Verdict
    findings: Sequence[Finding]
    monitor: RunMonitor

    def finding(self, check: str) -> Finding:
        """Return the only finding of a check."""
        (finding,) = [finding for finding in self.findings if finding.check == check]
        return finding


def judge(task: Any, *, steps: int = 120, smoke: Mapping[str, Any] | None = None, **full: Any) -> Judged:
    """Train `task` for `steps` steps on the CPU and judge it; further keywords are those of `full`."""
    settings = {"batch_size": 8, "learning_rate": 0.01, "max_steps": 20 * steps, **full}
    recipe = Recipe.model_validate({"task": "a:B", "full": settings, "smoke": {"max_steps": steps, **(smoke or {})}})
    case = Case(path="a.smoke.yaml", recipe=recipe, mode="constant")
    monitor = RunMonitor(case, early_stop=True)
    torch.set_num_threads(1)
    seed_all(0)
    try:
        Loop(RunPlan.of(case, root=str(Path.cwd()), device="cpu"), task, torch.device("cpu"), Direct(monitor)).run()
    finally:
        torch.set_grad_enabled(True)  # some of the tasks leave gradients disabled
    early = list(monitor.early_findings.values())
    findings = monitor.registry.completed([*early, *monitor.judge_loss(), *monitor.registry.at_end(monitor)])
    return Judged(decide(findings), findings, monitor)
