"""The distance of what was measured from its limit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.criteria import parse
from pytest_smoke.events import Gradients
from pytest_smoke.history.margins import SMALLEST_RISE, margins_of
from pytest_smoke.judge.checks.grad_ratio import grad_ratio
from pytest_smoke.outcome import Finding


def margin(*findings: Finding) -> dict[str, float]:
    """Return the margins by name, read from JSON as `verdicts.json` has them."""
    trees = json.loads(json.dumps([finding.to_dict() for finding in findings]))
    return {name: one.left for name, one in margins_of(trees).items()}


@pytest.mark.parametrize(
    ("text", "series", "left"),
    [
        ("loss < 1", {"loss": [(9, 0.8)]}, 0.2),
        ("loss < 1", {"loss": [(9, 1.3)]}, -0.3),
        ("1 > loss", {"loss": [(9, 0.8)]}, 0.2),
        ("acc > 0.5", {"acc": [(9, 0.6)]}, 0.2),
        ("acc >= 0.5", {"acc": [(9, 0.4)]}, -0.2),
        ("a < 2 * b", {"a": [(9, 3.0)], "b": [(9, 2.0)]}, 0.25),
        ("shift > -4", {"shift": [(9, -3.0)]}, 0.25),
        ("shift > -4", {"shift": [(9, -5.0)]}, -0.25),
        ("gain > 0", {"gain": [(9, 0.25)]}, 0.25),
        ("gain > 0", {"gain": [(9, -0.25)]}, -0.25),
        ("acc > 0.5 by step 100", {"acc": [(9, 0.1), (25, 0.6), (99, 0.9)]}, 0.75),
        ("acc > 0.5 by step 100", {"acc": [(9, 0.1), (99, 0.2), (120, 0.9)]}, 0.0),
        ("max(loss) < 4 by step 100", {"loss": [(9, 3.0), (120, 9.0)]}, 0.25),
    ],
)
def test_a_criterion(text: str, series: dict[str, list[tuple[int, float]]], left: float) -> None:
    (name, found), *rest = margin(parse(text).judge(series, steps_run=200)).items()
    assert (name, rest) == (text, [])
    assert found == pytest.approx(left)


@given(
    st.sampled_from(["<", "<=", ">", ">="]),
    st.floats(-1e6, 1e6, allow_subnormal=False),
    st.floats(-1e6, 1e6, allow_subnormal=False),
)
def test_a_margin_is_positive_where_the_criterion_holds(order: str, value: float, bound: float) -> None:
    finding = parse(f"x {order} {bound!r}").judge({"x": [(1, value)]}, steps_run=2)
    for left in margin(finding).values():
        assert left >= 0 if finding.status == "pass" else left <= 0


@pytest.mark.parametrize("text", ["acc == 1", "acc != 1", "missing > 1", "loss < 1", "wrong < 1"])
def test_what_has_no_distance_has_no_margin(text: str) -> None:
    series = {"acc": [(1, 1.0)], "loss": [(1, float("nan"))], "wrong": [(1, float("inf"))]}
    assert margin(parse(text).judge(series, steps_run=2)) == {}
    assert margin(parse(text).not_judged("ended-early", "")) == {}


@pytest.mark.parametrize(
    ("bounds", "ratio", "left"),
    [
        ([0.5, 8.0], 2.0, 0.75),
        ([0.5, 8.0], 0.625, 0.2),
        ([0.5, 8.0], 10.0, -0.25),
        ([0.5, 8.0], 0.25, -1.0),
        ([None, 8.0], 0.001, 1 - 0.001 / 8),
        ([0.5, None], 1.0, 0.5),
        ([0.0, 4.0], 1.0, 0.75),
    ],
)
def test_a_ratio_of_gradient_norms_has_the_margin_of_its_nearer_bound(
    bounds: list[float | None], ratio: float, left: float
) -> None:
    probe = Gradients(step=5, raw={"a": ratio, "b": 1.0}, weighted={"a": ratio, "b": 1.0}, cosines={})
    finding = grad_ratio([probe], {"a/b": bounds}, terms=["a", "b"], finding_id="grad-ratio[B]")
    assert finding is not None
    ((name, found),) = margin(finding).items()
    assert name == f"a/b in [{', '.join('any' if one is None else f'{one:g}' for one in bounds)}] [B]"
    assert found == pytest.approx(left)


def test_undeclared_ratios_have_no_margin() -> None:
    probe = Gradients(step=5, raw={"a": 2.0, "b": 1.0}, weighted={"a": 2.0, "b": 1.0}, cosines={})
    finding = grad_ratio([probe], {}, terms=["a", "b"])
    assert finding is not None
    assert margin(finding) == {}


def test_the_noise_of_the_loss_has_the_margin_to_too_noisy() -> None:
    data = {"smallest_rise": 0.02, "smallest_rise_of_limit": 0.2}
    trend = Finding(id="loss-trend[A]", status="pass", text="", data=data)
    assert margin(trend) == {f"{SMALLEST_RISE} [A]": pytest.approx(0.8)}
    assert margins_of([trend.to_dict()])[f"{SMALLEST_RISE} [A]"].bound == pytest.approx(0.1)


def test_criteria_of_a_stage_have_its_name() -> None:
    criterion = Finding(id="accept[acc > 0.5]", status="pass", text="", observed=0.6, bound=0.5)
    stage = Finding(id="stage[warm]", status="pass", text="", data={"criteria": [criterion.to_dict()]})
    assert margin(stage) == {"warm: acc > 0.5": pytest.approx(0.2)}


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"id": st.sampled_from(["accept[x > 1 by step 5]", "stage[A]", "grad-ratio", "loss-trend"]) | ANY},
            optional=dict.fromkeys(("status", "observed", "bound", "data", "step"), ANY),
        )
        | ANY
    )
    | ANY
)
def test_findings_of_another_form_are_passed_over(findings: Any) -> None:
    for one in margins_of(findings).values():
        assert one.left == one.left
