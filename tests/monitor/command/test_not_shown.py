"""Every check is made with a command, is reported as not checked, or is one that a command cannot ask for."""

from __future__ import annotations

from pytest_smoke.judge.checks.registry import CHECKS
from pytest_smoke.monitor.command.run import NOT_SHOWN
from pytest_smoke.recipe.command import REFUSED_KEYS

FROM_RECIPE = {"batch-geometry", "schedule", "settings", "mix", "baseline", "sources", "full-accept"}
FROM_LOG = {"run", "batch-drawn", "lr-applied", "finite", "loss-trend", "accept"}
FROM_METRICS = {"peak-regression", "above-chance", "time-to-target", "exposure-bias", "metrics"}
OF_TASKS = {"resumed", "metric-names", "prediction-errors"}
"""Checks of what only a task may have, and does not need to have."""
WIRING = {"overfit"}


def test_no_check_is_passed_over_silently() -> None:
    refused = {"stage"} | {keys[-1] for keys in REFUSED_KEYS}
    known = FROM_RECIPE | FROM_LOG | FROM_METRICS | OF_TASKS | WIRING | refused | NOT_SHOWN.keys()
    assert {check.id for check in CHECKS} - known == set()
