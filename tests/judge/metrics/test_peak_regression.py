"""`peak-regression`: real regressions warn, noise does not."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_smoke.judge.metrics import advisories
from pytest_smoke.judge.metrics.history import History
from pytest_smoke.judge.metrics.peak_regression import OUTLIERS_FROM, peak_regression
from pytest_smoke.recipe.model import MetricSpec
from tests.judge.metrics.series import FIRST_ACC, VALUES, advise, noisy


def test_a_fall_from_two_hits_to_one_of_24_items_is_noise() -> None:
    finding = advise(FIRST_ACC, MetricSpec(items=24))["peak-regression"]
    assert finding.status == "pass"
    assert finding.text.startswith(
        "f1 fell from 8.33 % (step 110) to 4.17 % (step 160), no more than noise explains (p = 0.99, 24 items"
    )


def test_the_same_fall_on_a_thousand_times_the_items_is_a_regression() -> None:
    values = [*FIRST_ACC[:1] * 7, 0.02, 0.05, 0.08, 1 / 12, 0.08, 0.07, 0.06, 0.05, 1 / 24]
    finding = advise(values, MetricSpec(items=24_000))["peak-regression"]
    assert (finding.status, finding.reason) == ("warn", "regressed")
    assert "compare the full run's checkpoints before changing the recipe" in finding.hint
    assert finding.data["peak_step"] == 110


def test_values_that_are_not_finite_or_not_shares_are_left_out_and_named() -> None:
    """Percentages (2.0, 3.0) are not shares of items, so the scatter of the evaluations is used instead."""
    finding = advise([1.0, math.nan, 2.0, 3.0, math.inf, 4.0, 3.5], MetricSpec(items=50))["peak-regression"]
    assert "left out 2 values not finite or above 1e+50" in finding.text
    assert "`items: 50` was ignored" in finding.text


def test_a_constant_metric_has_no_peak() -> None:
    metrics = {"f1": [(10, 0.1), (20, 0.2)], "text_f1": [(10, 0.4), (20, 0.4)], "em": [(10, 0.0), (20, 0.0)]}
    assert [finding.id for finding in advisories(metrics, {}, full_steps=100)] == ["peak-regression[f1]"]


RISING = st.lists(VALUES, min_size=2, max_size=30).map(sorted).filter(lambda values: values[0] < values[-1])


@given(RISING, st.booleans(), st.sampled_from([None, 30]))
def test_a_metric_that_never_falls_passes(values: list[float], lower: bool, items: int | None) -> None:
    sign = -1 if lower else 1
    spec = MetricSpec(better="lower" if lower else "higher", items=items)
    assert advise([sign * value for value in values], spec)["peak-regression"].status == "pass"


@given(st.lists(VALUES, min_size=2, max_size=20), st.floats(0.01, 100), st.floats(-1000, 1000), st.booleans())
def test_unit_origin_and_direction_do_not_change_the_result(
    values: list[float], scale: float, shift: float, mirrored: bool
) -> None:
    plain = peak_regression(History.of("m", list(enumerate(values)), MetricSpec(better="higher")))
    factor = -scale if mirrored else scale
    moved = [factor * value + shift for value in values]
    assume(len(set(moved)) == len(set(values)))
    spec = MetricSpec(better="lower" if mirrored else "higher")
    transformed = peak_regression(History.of("m", list(enumerate(moved)), spec))
    p_value = plain.data.get("p_value")
    if p_value is not None and abs(p_value - 0.01) > 1e-6 and plain.data["noise"] > 1e-9:
        assert transformed.status == plain.status
        assert transformed.data["p_value"] == pytest.approx(p_value, abs=1e-4)


RUNS = 150


@pytest.mark.parametrize("count", [5, OUTLIERS_FROM - 1, 24])
@pytest.mark.parametrize("noise", ["gaussian", "lognormal", "heavy"])
def test_constant_noisy_metrics_rarely_warn(count: int, noise: str) -> None:
    """At most 1 % is claimed for Gaussian noise, 2 % for others: 4 of 150 are that or fewer in 80 % of such tests."""
    draw = random.Random(count)
    value = {
        "gaussian": lambda: draw.gauss(0, 1),
        "lognormal": lambda: draw.lognormvariate(0, 1),
        "heavy": lambda: draw.gauss(0, 1) / math.sqrt(draw.gammavariate(1.5, 1 / 1.5)),
    }[noise]
    warned = sum(advise([value() for _ in range(count)])["peak-regression"].status == "warn" for _ in range(RUNS))
    assert warned <= 4


def test_a_fall_of_ten_deviations_warns_in_most_runs() -> None:
    """The counterpart of the test above: in 9 of 10 runs of 20 evaluations."""

    def shape(at: int) -> float:
        return 3.0 * min(at, 10) - max(0, at - 10) * 10 / 9

    warned = sum(advise(noisy(shape, 20, 1.0, seed))["peak-regression"].status == "warn" for seed in range(50))
    assert warned >= 40
