"""Every advisory message once, with real values, to be read as one text."""

from __future__ import annotations

import math

import pytest

from pytest_smoke.judge.metrics import advisories
from pytest_smoke.judge.metrics.missing_metrics import missing_metrics
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.model import MetricSpec
from tests.judge.metrics.series import FIRST_ACC, advise, noisy

RISING = [0.10, 0.14, 0.17, 0.22, 0.25, 0.31, 0.33, 0.38]
FALLEN = noisy(lambda at: 0.8 - 0.02 * max(0, at - 4), 16, 0.003)


def exposure(nll: list[float], match: list[float], chance: float | None = None) -> Finding:
    """The `exposure-bias` finding of one condition."""
    metrics = {"nll": list(enumerate(nll, 1)), "match": list(enumerate(match, 1))}
    declared = {
        "nll": MetricSpec(kind="teacher-forced"),
        "match": MetricSpec(kind="free-running", items=200, chance=chance),
    }
    findings = advisories(metrics, declared, full_steps=2000)
    return next(finding for finding in findings if finding.id == "exposure-bias[match]")


def target(values: list[float], value: float = 0.9) -> Finding:
    """The `time-to-target` finding."""
    return advise(values, MetricSpec(target=value), every=100)["time-to-target"]


def chance(values: list[float], level: float = 0.0) -> Finding:
    """The `above-chance` finding on 100 items."""
    return advise(values, MetricSpec(items=100, chance=level))["above-chance"]


FALLING_NLL = noisy(lambda at: 13 - 0.5 * at, 8, 0.05)
FLAT_NLL = noisy(lambda at: 13.0, 8, 0.05)

MESSAGES: list[tuple[str, Finding, str]] = [
    ("peak-regression: -", advise(RISING)["peak-regression"], "f1 is at its best at the end: 0.38 at step 80"),
    (
        "peak-regression: -, 2",
        advise(FIRST_ACC, MetricSpec(items=24))["peak-regression"],
        "f1 fell from 8.33 % (step 110) to 4.17 % (step 160), no more than noise explains (p = 0.99, 24 items, 15 "
        "earlier evaluations)",
    ),
    (
        "peak-regression: regressed",
        advise(FALLEN)["peak-regression"],
        "f1 fell from 0.8028 (step 10) to 0.5785 (step 160), more than noise explains (p < 0.0001, 15 earlier "
        "evaluations) -> the full run's learning rate decay, or early stopping, may keep the peak: compare "
        "the full run's checkpoints before changing the recipe",
    ),
    (
        "peak-regression: too-few-evaluations",
        advise([0.5, 0.4, 0.3])["peak-regression"],
        "f1 fell from 0.5 (step 10) to 0.3 (step 30); 3 evaluations are too few to tell that from noise",
    ),
    (
        "above-chance: -",
        chance([0.0, 0.0, 0.2, 0.3, 0.4]),
        "f1 has been better than chance (0.00 %) since step 30 (20.00 %), in all 3 evaluations",
    ),
    (
        "above-chance: -, 2",
        chance([0.0, 0.5, 0.6, 0.5, 0.0, 0.0]),
        "f1 was better than chance (0.00 %) from step 20 (50.00 %) for 3 evaluations, but no longer at the "
        "end: 0.00 % at step 60",
    ),
    (
        "above-chance: -, 3",
        chance([0.0, 0.5, 0.6, 0.0, 0.5]),
        "f1 was better than chance (0.00 %) from step 20 (50.00 %) for 2 evaluations and again at the end: "
        "50.00 % at step 50",
    ),
    (
        "above-chance: only-at-the-end",
        chance([0.0, 0.0, 0.0, 0.0, 0.2]),
        "f1 was better than chance (0.00 %) at its last evaluation only: 20.00 % at step 50",
    ),
    (
        "above-chance: at-chance",
        chance([0.0, 0.2, 0.0, 0.1, 0.0]),
        "f1 was better than chance (0.00 %) in 2 of 5 evaluations, but never 2 in a row: 20.00 % at step 20, "
        "0.00 % at the end -> run more steps, or evaluate on more items, to tell slow learning from none",
    ),
    (
        "above-chance: at-chance, 2",
        chance([0.25, 0.24, 0.26], 0.25),
        "f1 was never better than chance (25.00 %): 26.00 % at step 30 -> run more steps, or evaluate on "
        "more items, to tell slow learning from none",
    ),
    (
        "above-chance: too-few-evaluations",
        advise([0.5, 0.4], MetricSpec(chance=0.1))["above-chance"],
        "f1 was evaluated 2 times, too few to tell a trend from noise: evaluate more often "
        "(smoke.evaluate_every_steps)",
    ),
    ("time-to-target: -", target([0.5, 0.7, 0.95]), "f1 is 0.95 at step 300 and has reached its target of 0.9"),
    (
        "time-to-target: still-improving",
        target(RISING),
        "f1 is 0.38 at step 800, target 0.9; slope +0.4 \u00b1 0.031 per 1,000 steps over the last 5 evaluations. "
        "At this trend it reaches the target at step 1,900 at the earliest, or never (90 % interval, extrapolated "
        "with linear and saturating trends); the full run has 2,000 steps",
    ),
    (
        "time-to-target: too-slow",
        target([0.9 - 0.8 / (k + 1) for k in range(12)], 0.95),
        "f1 is 0.8333 at step 1200, target 0.95; slope +0.094 \u00b1 0.0074 per 1,000 steps over the last 6 "
        "evaluations. It improves, but levels off before the target (extrapolated at the peak learning rate)",
    ),
    (
        "time-to-target: too-slow, 2",
        target(noisy(lambda at: 0.1 + 0.0002 * at, 16, 0.0001)),
        "f1 is 0.1029 at step 1600, target 0.9; slope +0.002 \u00b1 0.00016 per 1,000 steps over the last 8 "
        "evaluations. At this slope it reaches the target at step 340,000 at the earliest (extrapolated at "
        "the peak learning rate), but the full run has 2,000 steps",
    ),
    (
        "time-to-target: flat-below-target",
        target(noisy(lambda at: 0.3, 16, 0.002)),
        "f1 is 0.299 at step 1600, target 0.9; slope +0.00097 \u00b1 0.0032 per 1,000 steps over the last 8 "
        "evaluations. Flat: even the steepest slope within its noise does not reach the target in the 400 "
        "steps left of the full run -> change the model, the loss or the data: longer training alone is "
        "unlikely to reach the target",
    ),
    (
        "time-to-target: worsening",
        target(FALLEN),
        "f1 is 0.5785 at step 1600, target 0.9; slope -0.2 \u00b1 0.0048 per 1,000 steps over the last 8 "
        "evaluations. It moves away from the target by more than its noise -> change the model, the loss or "
        "the data: longer training alone is unlikely to reach the target",
    ),
    (
        "time-to-target: unclear",
        target([0.0] * 8),
        "f1 is 0 at step 800, target 0.9; slope +0 \u00b1 0 per 1,000 steps over the last 5 evaluations. It did "
        "not change at all, so there is no trend to extrapolate",
    ),
    (
        "time-to-target: unclear, 2",
        target(noisy(lambda at: 0.3, 16, 0.3)),
        "f1 is 0.1458 at step 1600, target 0.9; slope +0.15 \u00b1 0.48 per 1,000 steps over the last 8 "
        "evaluations. Too noisy to tell a slow improvement from none: evaluate on more items, or more often",
    ),
    (
        "exposure-bias: exposure-bias",
        exposure(FALLING_NLL, [0.0] * 8),
        "nll is 9.458 at step 8, better than 13.05 at step 1 (-28 %); match is 0.00 % at step 8 and was never"
        " better than chance (0.00 %): 0 of 200 items, at most 1.49 % with 95 % confidence. The model "
        "scores reference answers well but generates none of them (exposure bias) -> training never "
        "conditions the model on its own output: mix its predictions into the prefix (scheduled sampling), or"
        " train on free-running generation; longer training alone may not close the gap",
    ),
    (
        "exposure-bias: exposure-bias, 2",
        exposure(FALLING_NLL, [0.1] * 8, chance=0.1),
        "nll is 9.458 at step 8, better than 13.05 at step 1 (-28 %); match is 10.00 % at step 8 and was "
        "never better than chance (10.00 %). The model scores reference answers well but generates them no"
        " better than chance (exposure bias) -> training never conditions the model on its own output: mix "
        "its predictions into the prefix (scheduled sampling), or train on free-running generation; longer "
        "training alone may not close the gap",
    ),
    (
        "exposure-bias: no-improvement",
        exposure(FLAT_NLL, [0.0] * 8),
        "match is 0.00 % at step 8 and was never better than chance (0.00 %): 0 of 200 items, at most 1.49"
        " % with 95 % confidence. No sign of exposure bias: nll did not improve beyond noise either",
    ),
    (
        "exposure-bias: -",
        exposure(FALLING_NLL, [0.0, 0.02] * 4),
        "match is 2.00 % at step 8 and was better than chance (0.00 %): the model generates correct answers",
    ),
    (
        "metrics: missing-metric",
        advisories({"val_f1": [(1, 0.5)]}, {"val_f": MetricSpec()}, full_steps=9)[0],
        "the recipe's `metrics` section names val_f, but evaluate() returned val_f1 -> did you mean val_f1?",
    ),
    (
        "metrics: missing-metric, 2",
        advisories({}, {"val_f1": MetricSpec()}, full_steps=9)[0],
        "the recipe's `metrics` section names val_f1, but evaluate() returned nothing",
    ),
    (
        "full-accept: missing-metric",
        missing_metrics(["goal: val_ac > 0.9"], ["loss", "val_acc"])[0],
        "checks.full_accept names val_ac, which this smoke run never recorded; it recorded loss and val_acc "
        "-> did you mean val_acc?",
    ),
    (
        "peak-regression: -, 3",
        advise([1.0, math.nan, 2.0, 3.0, math.inf, 4.0, 3.5], MetricSpec(items=50))["peak-regression"],
        "f1 fell from 4 (step 60) to 3.5 (step 70), no more than noise explains (p = 0.47, 4 earlier evaluations); "
        "left out 2 values not"
        " finite or above 1e+50; `items: 50` was ignored because some values are not between 0 and 1",
    ),
]


@pytest.mark.parametrize(("key", "finding", "text"), MESSAGES, ids=[key for key, _, _ in MESSAGES])
def test_the_message(key: str, finding: Finding, text: str) -> None:
    check, _, reason = key.partition(": ")
    assert finding.id.partition("[")[0] == check
    assert finding.reason == reason.partition(",")[0].removeprefix("-")
    assert f"{finding.text} -> {finding.hint}".removesuffix(" -> ") == text
