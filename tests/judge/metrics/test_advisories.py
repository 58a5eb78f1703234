"""Facts that hold for every advisory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.judge.metrics import advisories
from pytest_smoke.recipe.model import MetricSpec
from tests.judge.metrics.series import VALUES, advise


@pytest.mark.parametrize("count", [1, 2, 4])
def test_too_few_evaluations_pass_and_say_so(count: int) -> None:
    """Never `not-checked`, which would make the verdict inconclusive."""
    findings = advise([0.5, 0.1, 0.2, 0.1][:count], MetricSpec(chance=0.0, target=0.9, kind="free-running"))
    assert {finding.status for finding in findings.values()} == {"pass"}
    assert all(finding.reason == "too-few-evaluations" for finding in findings.values())
    assert all("too few" in finding.text for finding in findings.values())
    assert ("peak-regression" in findings) == (count > 1)


def test_no_advisories_without_metrics_or_on_an_undeclared_single_value() -> None:
    assert advisories({}, {}, full_steps=9) == []
    assert advisories({"f1": [(100, 0.5)]}, {}, full_steps=9) == []


@given(
    st.lists(VALUES, min_size=1, max_size=25),
    st.builds(
        MetricSpec,
        better=st.sampled_from([None, "higher", "lower"]),
        kind=st.sampled_from([None, "teacher-forced", "free-running"]),
        chance=st.none() | VALUES,
        target=st.none() | VALUES,
    ),
)
def test_an_advisory_only_passes_or_warns(values: list[float], spec: MetricSpec) -> None:
    """`fail` would hold a smoke run back, and `not-checked` would make it inconclusive."""
    for finding in advise(values, spec).values():
        assert finding.status in ("pass", "warn")
        assert finding.text


@given(
    st.dictionaries(st.integers(0, 10**12), st.floats(), min_size=1, max_size=12),
    st.builds(MetricSpec, chance=st.just(0.0), target=st.floats(-1e50, 1e50), kind=st.just("free-running")),
)
def test_extreme_values_and_steps_never_raise(points: dict[int, float], spec: MetricSpec) -> None:
    forced = MetricSpec(kind="teacher-forced")
    series = list(points.items())
    for finding in advisories({"m": series, "nll": series}, {"m": spec, "nll": forced}, full_steps=10**12):
        assert finding.status in ("pass", "warn")
        assert "nan" not in finding.text
