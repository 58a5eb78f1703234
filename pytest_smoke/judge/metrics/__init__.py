"""Advisories: findings about the metrics of a smoke run that pass or warn, and never decide its verdict.

- `peak-regression[metric]`, for every metric with two different values: did it fall from its best by more than noise?
- `above-chance[metric]`, where the recipe declares its `chance`: was it ever better than chance?
- `time-to-target[metric]`, where the recipe declares its `target`: will the full run reach the target?
- `exposure-bias[metric]`, for free-running metrics: does the model score reference answers well but generate none?
- `metrics` and `full-accept`: does the recipe name a metric that was never recorded?

Pure functions of the recorded values, with the standard library alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pytest_smoke.judge.metrics.above_chance import above_chance
from pytest_smoke.judge.metrics.exposure_bias import exposure_bias
from pytest_smoke.judge.metrics.history import History
from pytest_smoke.judge.metrics.missing_metrics import missing_declared
from pytest_smoke.judge.metrics.peak_regression import peak_regression
from pytest_smoke.judge.metrics.time_to_target import time_to_target
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.model import MetricSpec

__all__ = ["advisories"]


def advisories(
    metrics: Mapping[str, Sequence[tuple[int, float]]],
    declared: Mapping[str, MetricSpec],
    *,
    full_steps: int,
    stage: str = "",
    first_step: int = 0,
) -> list[Finding]:
    """Return every advisory on the metrics that `evaluate` returned.

    `metrics` holds `(step, value)` points by name, `declared` is the recipe's `metrics` section, and `full_steps` the
    length of the full run. For a smoke run in stages, `stage`, `first_step` and `full_steps` are those of the last
    stage: `peak-regression` and `time-to-target` look at that stage only, because an earlier one may train something
    else.
    """
    histories = {name: History.of(name, points, declared.get(name)) for name, points in metrics.items()}
    last_stage = {
        name: History.of(name, [point for point in points if point[0] >= first_step], declared.get(name))
        for name, points in metrics.items()
    }
    findings = [peak_regression(history) for history in last_stage.values() if len(set(history.values)) > 1]
    for name, history in histories.items():
        spec = declared.get(name)
        if spec is not None and spec.chance is not None:
            findings.append(above_chance(history, spec.chance))
        if spec is not None and spec.target is not None:
            finding = time_to_target(last_stage[name].counted_from(first_step), spec.target, full_steps)
            if stage:
                text = f"stage {stage}, steps counted from its start: {finding.text}"
                finding = replace(finding, text=text, step=None)
            findings.append(finding)
    findings += exposure_bias(histories.values(), histories)
    return findings + missing_declared(declared, list(metrics))
