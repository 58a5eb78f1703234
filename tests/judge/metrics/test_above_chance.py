"""`above-chance`: when a metric became better than chance."""

from __future__ import annotations

from pytest_smoke.recipe.model import MetricSpec
from tests.judge.metrics.series import FIRST_ACC, advise


def test_two_significant_evaluations_in_a_row_are_needed() -> None:
    """Three single ones warn; one more after the last makes two in a row."""
    spec = MetricSpec(items=24, chance=1 / 32_000)
    single = advise(FIRST_ACC, spec)["above-chance"]
    assert (single.status, single.reason) == ("warn", "at-chance")
    assert "better than chance (0.0031 %) in 3 of 16 evaluations, but never 2 in a row" in single.text
    assert single.data["above"] == [40, 110, 160]
    repeated = advise([*FIRST_ACC, 1 / 24], spec)["above-chance"]
    assert (repeated.status, repeated.step) == ("pass", 160)
    assert repeated.text == "f1 has been better than chance (0.0031 %) since step 160 (4.17 %), in all 2 evaluations"


def test_a_fall_back_to_chance_is_reported() -> None:
    finding = advise([0.0, 0.5, 0.6, 0.5, 0.0, 0.0], MetricSpec(items=100, chance=0.0))["above-chance"]
    assert finding.status == "pass"
    assert finding.text == (
        "f1 was better than chance (0.00 %) from step 20 (50.00 %) for 3 evaluations, "
        "but no longer at the end: 0.00 % at step 60"
    )


def test_a_return_above_chance_is_reported() -> None:
    finding = advise([0.0, 0.5, 0.6, 0.0, 0.5], MetricSpec(items=100, chance=0.0))["above-chance"]
    assert (finding.status, finding.step) == ("pass", 20)
    assert finding.text == (
        "f1 was better than chance (0.00 %) from step 20 (50.00 %) for 2 evaluations and again at the end: "
        "50.00 % at step 50"
    )


def test_an_error_rate_is_better_than_chance_below_it() -> None:
    rates = [0.75, 0.76, 0.74, 0.5, 0.4, 0.3]
    for spec in (MetricSpec(items=400, chance=0.75), MetricSpec(chance=0.75)):
        finding = advise(rates, spec, name="error_rate")["above-chance"]
        assert finding.status == "pass" or spec.items is None, finding.text
    lower = MetricSpec(items=400, chance=0.75)
    assert advise(rates, lower, name="error_rate")["above-chance"].step == 40
    higher = MetricSpec(items=400, chance=0.75, better="higher")
    assert advise(rates, higher, name="error_rate")["above-chance"].reason == "at-chance"
