"""`time-to-target`: extrapolation to a declared target."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from pytest_smoke.judge.metrics import advisories
from pytest_smoke.recipe.model import MetricSpec
from tests.judge.metrics.series import advise, noisy


@pytest.mark.parametrize(
    ("values", "target", "reason", "status", "fragment"),
    [
        (
            noisy(lambda at: 0.1 + 0.02 * at, 16, 0.003),
            0.9,
            "still-improving",
            "pass",
            "At this trend it reaches the target",
        ),
        (
            noisy(lambda at: 0.1 + 0.0002 * at, 16, 0.0001),
            0.9,
            "too-slow",
            "warn",
            "the full run has 2,000 steps",
        ),
        (noisy(lambda at: 0.3, 16, 0.002), 0.9, "flat-below-target", "warn", "Flat: even the steepest slope"),
        (noisy(lambda at: 0.3, 16, 0.3), 0.9, "unclear", "pass", "Too noisy"),
        ([0.0] * 16, 0.9, "unclear", "pass", "did not change at all"),
        (noisy(lambda at: 0.8 - 0.02 * at, 16, 0.003), 0.9, "worsening", "warn", "moves away"),
        (noisy(lambda at: 0.1 + 0.06 * at, 16, 0.001), 0.9, "", "pass", "has reached its target"),
    ],
)
def test_each_kind_of_trend_gets_its_reason(
    values: list[float], target: float, reason: str, status: str, fragment: str
) -> None:
    """Upwards, and mirrored downwards."""
    for sign, better in ((1, "higher"), (-1, "lower")):
        spec = MetricSpec(better=better, target=sign * target)  # type: ignore[arg-type]  # both are literals of Metric
        finding = advise([sign * value for value in values], spec)["time-to-target"]
        assert (finding.reason, finding.status) == (reason, status), finding.text
        assert fragment in finding.text


@pytest.mark.parametrize(
    ("shape", "deviation"),
    [(lambda s: 0.1 + 0.0003 * s, 0.004), (lambda s: 0.9 - 8 / s, 0.001), (lambda s: 0.1 * math.log(s), 0.004)],
)
def test_the_interval_covers_the_step_that_reaches_the_target(
    shape: Callable[[float], float], deviation: float
) -> None:
    """For straight and saturating trends, in at least 90 % of noisy runs."""
    truth = 1600.0
    inside = 0
    for seed in range(60):
        values = noisy(lambda at: shape(50.0 * (at + 1)), 16, deviation, seed)
        data = advise(values, MetricSpec(target=shape(truth)), every=50)["time-to-target"].data
        inside += data["earliest_step"] <= truth <= (data["latest_step"] or math.inf)
    assert inside >= 54


def test_the_slope_is_per_step_in_data_and_per_1000_steps_in_text() -> None:
    finding = advise([0.1 + 0.02 * at for at in range(16)], MetricSpec(target=0.9))["time-to-target"]
    assert finding.data["slope_per_step"] == pytest.approx(0.002)
    assert "slope +2 ± " in finding.text
    assert " per 1,000 steps over the last 8 evaluations" in finding.text
    assert "At this trend it reaches the target between step 410 and 410 " in finding.text
    falling = advise([0.5 - 0.02 * at for at in range(16)], MetricSpec(target=0.0, better="lower"))["time-to-target"]
    assert "slope -2 ± " in falling.text


def test_peak_and_target_are_those_of_the_last_stage() -> None:
    """Stage B is harder: the metric falls at its start and rises again; B has 900 steps in the full run."""
    points = [(80 * k, 0.5 + 0.04 * k) for k in range(1, 11)] + [(800 + 80 * k, 0.3 + 0.01 * k) for k in range(1, 6)]
    declared = {"f1": MetricSpec(items=10_000, target=0.9, chance=0.1)}
    in_stage = advisories({"f1": points}, declared, full_steps=900, stage="B", first_step=801)
    findings = {finding.id: finding for finding in in_stage}
    assert findings["peak-regression[f1]"].status == "pass"
    target = findings["time-to-target[f1]"]
    assert target.reason == "too-slow"
    assert target.text.startswith(
        "stage B, steps counted from its start: f1 is 35.00 % at step 399, target 90.00 %; slope "
    )
    assert "the full run has 900 steps" in target.text
    whole = {finding.id: finding for finding in advisories({"f1": points}, declared, full_steps=20_900)}
    assert whole["time-to-target[f1]"].reason == "worsening"
