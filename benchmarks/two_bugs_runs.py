"""Runs of the two bugs: how each is trained and judged, and what is read off it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_smoke import schedules
from pytest_smoke.judge.checks.preflight import preflight
from pytest_smoke.monitor.child import run_in_child
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.train.plan import RunPlan

ROOT = Path(__file__).parents[1]
METRIC = "val_macro_f1"
FELL = 0.05
"""A macro-F1 is well below the best so far from this difference on: evaluations of a healthy run differ by 0.03."""
UNSTABLE = ("rise", "spike", "divergence", "non-finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training run and what was said of it."""

    case: Case
    refused: Finding | None
    """What preflight refuses it for; None if it may run."""
    loss_trend: Finding
    """What the judge says of its losses and learning rates alone."""
    losses: tuple[tuple[int, float], ...]
    """Weighted loss of every step."""
    f1: tuple[tuple[int, float], ...]
    """Macro-F1 on the held-out addresses, by steps trained."""

    @property
    def verdict(self) -> str:
        """`promote`, or what the judge says instead, with its reason and step."""
        said = self.loss_trend
        if said.status == "pass":
            return "promote"
        word = "unstable" if said.reason in UNSTABLE else {"masked": "invalid"}.get(said.reason, "inconclusive")
        return f"{word}: {said.reason}" + (f" at step {said.step}" if word == "unstable" else "")

    @property
    def multiplier(self) -> schedules.Schedule:
        """The share of the peak learning rate by step."""
        settings = self.case.settings
        return schedules.named(settings.lr_schedule, settings.warmup_steps, settings.max_steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Three:
    """The three runs of the first bug, of one seed."""

    cosine: Run
    constant: Run
    full: Run | None
    """None: not run with this seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collapse:
    """How far and how long a macro-F1 fell below the best before it."""

    peak: float
    peak_step: int
    low: float
    low_step: int
    steps_below: int
    """Steps, to the next evaluation each, that it was `FELL` or more below the best so far."""
    healed_step: int | None
    """First evaluation from which on it never was again; None: it was at the end."""
    last: float


def collapse(f1: Sequence[tuple[int, float]]) -> Collapse:
    """The deepest fall below the best so far. `f1`: evaluations at equal distances."""
    best, fell = (0, -math.inf), []
    deepest = (0.0, best, best)
    for step, value in f1:
        best = max(best, (step, value), key=lambda point: point[1])
        deepest = max(deepest, (best[1] - value, best, (step, value)), key=lambda fall: fall[0])
        fell.append(best[1] - value >= FELL)
    every = f1[1][0] - f1[0][0]
    last_fallen = max((number for number, below in enumerate(fell) if below), default=-1)
    _, peak, low = deepest
    return Collapse(
        peak=peak[1],
        peak_step=peak[0],
        low=low[1],
        low_step=low[0],
        steps_below=every * sum(fell),
        healed_step=f1[last_fallen + 1][0] if last_fallen + 1 < len(f1) else None,
        last=f1[-1][1],
    )


def changed(case: Case, **smoke: Any) -> Case:
    """`case` with other settings of the smoke."""
    recipe = case.recipe
    return replace(case, recipe=recipe.model_copy(update={"smoke": recipe.smoke.model_copy(update=smoke)}))


def train(case: Case, *, early_stop: bool = False) -> Run:
    """Run `case` in a process of its own and judge it as it runs, whether or not preflight would have let it."""
    monitor = RunMonitor(case, early_stop=early_stop)
    ran = run_in_child(RunPlan.of(case, root=str(ROOT), device="cpu"), monitor, timeout_seconds=None, watch=None)
    if ran.finding.status == "fail":
        raise SystemExit(f"{ran.finding.text}\n{ran.output}")
    findings, _ = monitor.judge_loss()
    return Run(
        case=case,
        refused=next((finding for finding in preflight(case) if finding.status == "fail"), None),
        loss_trend=findings[-1],
        losses=tuple((row.step, row.loss) for row in monitor.trace.steps),
        f1=tuple(monitor.trace.metrics[METRIC]),
    )
