"""Train the recipes of the two bugs and measure how far a metric collapses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_smoke import schedules
from pytest_smoke.judge.checks.registry import DEFAULT
from pytest_smoke.monitor.child import run_in_child
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.train.plan import RunPlan

ROOT = Path(__file__).parents[1]
METRIC = "val_macro_f1"
COLLAPSE = 0.05
"""Distance from the best macro-F1 so far that counts as a collapse: evaluations of a stable run differ by 0.03."""
VERDICTS = {
    "rise": "unstable",
    "spike": "unstable",
    "divergence": "unstable",
    "non-finite": "unstable",
    "masked": "invalid",
}
"""Verdict by reason of a failed check of the loss; all other reasons are inconclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training run and how it was judged."""

    case: Case
    preflight_failure: Finding | None
    """The first check before the run that failed; None if all passed."""
    loss_finding: Finding
    """`loss-trend`; `finite` if a value was not finite."""
    losses: tuple[tuple[int, float], ...]
    """Weighted loss by step."""
    f1: tuple[tuple[int, float], ...]
    """Macro-F1 on the held-out addresses by number of steps trained."""

    @property
    def verdict(self) -> str:
        """The verdict on the loss curve with its reason, and the step if it is `unstable`."""
        finding = self.loss_finding
        if finding.status == "pass":
            return "promote"
        verdict = VERDICTS.get(finding.reason, "inconclusive")
        return f"{verdict}: {finding.reason}" + (f" at step {finding.step}" if verdict == "unstable" else "")

    @property
    def multiplier(self) -> schedules.Schedule:
        """The learning rate by step, as a share of its peak."""
        settings = self.case.settings
        return schedules.named(settings.lr_schedule, settings.warmup_steps, settings.max_steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedRuns:
    """The runs of the first bug with one seed."""

    cosine: Run
    constant: Run
    full: Run | None
    """None: not run with this seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collapse:
    """The deepest fall of a macro-F1 below its best value so far, and how long it stayed low."""

    peak: float
    peak_step: int
    lowest: float
    lowest_step: int
    steps_below: int
    """Steps spent `COLLAPSE` or more below the best so far; an evaluation counts for the steps up to the next one."""
    recovered_step: int | None
    """First evaluation from which on it never collapsed again; None if it had not recovered at the end."""
    last: float


def collapse_of(f1: Sequence[tuple[int, float]]) -> Collapse:
    """Measure the deepest fall in at least two evaluations, which must be equally far apart."""
    best, collapsed = (0, -math.inf), []
    deepest = (0.0, best, best)
    for step, value in f1:
        best = max(best, (step, value), key=lambda point: point[1])
        deepest = max(deepest, (best[1] - value, best, (step, value)), key=lambda fall: fall[0])
        collapsed.append(best[1] - value >= COLLAPSE)
    every_steps = f1[1][0] - f1[0][0]
    last_collapsed = max((at for at, is_below in enumerate(collapsed) if is_below), default=-1)
    _, peak, lowest = deepest
    return Collapse(
        peak=peak[1],
        peak_step=peak[0],
        lowest=lowest[1],
        lowest_step=lowest[0],
        steps_below=every_steps * sum(collapsed),
        recovered_step=f1[last_collapsed + 1][0] if last_collapsed + 1 < len(f1) else None,
        last=f1[-1][1],
    )


def with_smoke_settings(case: Case, **smoke: Any) -> Case:
    """Return `case` with changed keys of its `smoke` section."""
    recipe = case.recipe
    return replace(case, recipe=recipe.model_copy(update={"smoke": recipe.smoke.model_copy(update=smoke)}))


def train(case: Case, *, early_stop: bool = False) -> Run:
    """Run `case` in a training process and judge it, even if a check before the run fails.

    Exits with the traceback if the training process fails.
    """
    monitor = RunMonitor(case, early_stop=early_stop)
    result = run_in_child(RunPlan.of(case, root=str(ROOT), device="cpu"), monitor, timeout_seconds=None, watch=None)
    if result.finding.status == "fail":
        raise SystemExit(f"{result.finding.text}\n{result.output}")
    return Run(
        case=case,
        preflight_failure=next((finding for finding in DEFAULT.before_run(case) if finding.status == "fail"), None),
        loss_finding=monitor.judge_loss()[-1],
        losses=tuple((row.step, row.loss) for row in monitor.trace.steps),
        f1=tuple(monitor.trace.metrics[METRIC]),
    )
