"""Judge criteria on recorded metrics."""

from __future__ import annotations

import json
import math
import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.criteria import parse
from pytest_smoke.outcome import Finding

NAN, INF = math.nan, math.inf
RUN: dict[str, list[tuple[int, float]]] = {
    "grad_norm": [(0, 3.0), (311, 612.4), (499, 8.0)],
    "loss": [(step, 5 - step / 100) for step in range(500)],
    "val/f1": [(100, 0.05), (200, 0.15), (300, 0.12), (499, 0.08)],
    "latent_nll": [(200, 1.2), (400, 2.3)],
    "text_nll": [(100, 1.0), (200, 2.0), (400, 1.8)],
    "broken": [(1, 1.0), (2, NAN), (3, 0.5)],
    "huge": [(1, INF)],
    "zero": [(1, 0.0), (2, 0.0), (3, 0.0)],
    "never": [],
}


def judged(text: str, **more: Any) -> Finding:
    run = {
        "baseline": {"f1": 0.3},
        "steps_run": 500,
        "stages": {"A": (0, 99), "B": (100, 199)},
        "steps_per_epoch": 100,
    }
    return parse(text).judge(RUN, **{**run, **more})


SENTENCES = [
    ("max(grad_norm) < 500", "fail", 311, "max(grad_norm) was 612.4 at step 311, the recipe requires < 500"),
    ("grad_norm < 500", "pass", 499, "grad_norm was 8 at step 499, the recipe requires < 500"),
    ("grad_norm < 500 at end", "pass", 499, "grad_norm was 8 at step 499, the recipe requires < 500 at end"),
    ("500 > max(grad_norm)", "fail", 311, "max(grad_norm) was 612.4 at step 311, the recipe requires < 500"),
    (
        "last(loss) <= 0.9 * first(loss)",
        "pass",
        499,
        "the recipe requires <= 0.9 * first(loss) = 4.5 (first(loss) was 5 at step 0)",
    ),
    ("mean(loss over stage B) < 2", "fail", None, "mean(loss over stage B) was 3.505, the recipe requires < 2"),
    ("mean(loss) < 4 over stage B", "pass", None, "mean(loss) was 3.505, the recipe requires < 4 over stage B"),
    ("median(loss over steps 0-2) == 4.99", "pass", None, "median(loss over steps 0-2) was 4.99"),
    (
        "min(loss over stage A) < loss",
        "fail",
        99,
        "min(loss over stage A) was 4.01 at step 99, the recipe requires < loss (0.01 at step 499)",
    ),
    ("`val/f1` > 0.1", "fail", 499, "`val/f1` was 0.08 at step 499, the recipe requires > 0.1"),
    (
        "`val/f1` > 0.1 by step 400",
        "pass",
        200,
        "`val/f1` was 0.15 at step 200, the recipe requires > 0.1 by step 400 (first met at this step)",
    ),
    ("`val/f1` > 0.1 by step 200", "pass", 200, "(first met at this step)"),
    (
        "`val/f1` > 0.1 by step 199",
        "fail",
        100,
        "was 0.05 at step 100, the recipe requires > 0.1 by step 199 (its best value)",
    ),
    ("`val/f1` > 0.1 by epoch 2", "pass", 200, "by epoch 2 (first met at this step)"),
    ("`val/f1` > 0.1 by epoch 1", "fail", 100, "by epoch 1 (its best value)"),
    ("`val/f1` > 0.2 by step 900", "fail", 200, "by step 900 (its best value); the run ended at step 500"),
    ("`val/f1` > 0.1 by step 900", "pass", 200, "by step 900 (first met at this step); the run ended at step 500"),
    ("`val/f1` > 0.1 over stage A by step 400", "fail", None, "no value in steps 0-99"),
    (
        "max(grad_norm) < 500 by step 100",
        "pass",
        0,
        "max(grad_norm) was 3 at step 0, the recipe requires < 500 by step 100",
    ),
    (
        "latent_nll < 1.1 * text_nll",
        "fail",
        400,
        "latent_nll was 2.3 at step 400, the recipe requires < 1.1 * text_nll = 1.98 (text_nll was 1.8 at step 400)",
    ),
    ("latent_nll < 1.1 * text_nll by step 400", "pass", 200, "latent_nll was 1.2 at step 200"),
    ("latent_nll < 1.1 * text_nll by step 150", "fail", None, "latent_nll has no value up to step 150"),
    (
        "latent_nll < grad_norm by step 450",
        "fail",
        None,
        "latent_nll and grad_norm were never recorded at the same step up to step 450",
    ),
    ("max(latent_nll / text_nll) < 2", "pass", 400, "max(latent_nll / text_nll) was 1.278 at step 400"),
    (
        "latent_nll - text_nll < 1",
        "pass",
        400,
        "was 0.5 (latent_nll was 2.3 at step 400, text_nll was 1.8 at step 400), the recipe requires < 1",
    ),
    (
        "`val/f1` > 0.5 * baseline.f1",
        "fail",
        499,
        "the recipe requires > 0.5 * baseline.f1 = 0.15 (baseline.f1 was 0.3)",
    ),
    (
        "loss < 0.0099999999999",
        "fail",
        499,
        "loss was 0.009999999999999787 at step 499, the recipe requires < 0.0099999999999",
    ),
]


@pytest.mark.parametrize(("text", "status", "step", "sentence"), SENTENCES, ids=[case[0] for case in SENTENCES])
def test_the_sentence_has_the_deciding_values_and_steps(
    text: str, status: str, step: int | None, sentence: str
) -> None:
    finding = judged(text)
    assert (finding.status, finding.step) == (status, step)
    assert sentence in finding.text
    assert finding.id == f"accept[{text}]"
    assert (finding.reason == "") == (status == "pass")


NOT_EVALUABLE = [
    ("f1 > 0.1", {}, "missing-metric", ["metric f1 was never recorded", "did you mean `val/f1`?"]),
    ("latent_nl > 0.1", {}, "missing-metric", ["did you mean latent_nll?"]),
    ("never > 0.1", {}, "missing-metric", ["metric never was never recorded"]),
    ("xyzzy > 0.1", {}, "missing-metric", ["known:", "grad_norm", "`val/f1`"]),
    ("loss < qqq by step 9", {}, "missing-metric", ["qqq"]),
    ("max(loss + qqq) < 2", {}, "missing-metric", ["qqq"]),
    ("loss > baseline.f2", {}, "missing-metric", ["baseline run has no metric f2", "did you mean f1?"]),
    ("loss > baseline.f1", {"baseline": None}, "missing-baseline", ["there is no baseline run"]),
    ("loss < 2 over stage C", {}, "unknown-stage", ["no stage C", "known: A, B"]),
    ("loss < 2 over stage C", {"stages": {}}, "unknown-stage", ["no stage C", "known: none"]),
    ("loss < 2 over steps 400-501", {}, "run-too-short", ["needs step 501", "the run ended at step 500"]),
    ("loss < 2 by epoch 3", {"steps_per_epoch": None}, "unknown-epoch-length", ["'by epoch 3'", "steps_per_epoch"]),
    ("text_nll < 2 over steps 0-50", {}, "no-values", ["text_nll has no value in steps 0-50", "steps 100-400"]),
    ("broken < 9 over steps 2-2", {}, "non-finite", ["broken was NaN at step 2", "NaN and infinity"]),
    ("max(broken) < 9", {}, "non-finite", ["max(broken) was NaN at step 2"]),
    ("min(broken) > 0", {}, "non-finite", ["NaN at step 2"]),
    ("mean(broken) < 9", {}, "non-finite", ["NaN at step 2"]),
    ("median(broken) != 9", {}, "non-finite", ["NaN at step 2"]),
    ("huge > 1", {}, "non-finite", ["huge was inf at step 1"]),
    ("1 / zero != 5", {}, "non-finite", ["1 / zero was NaN (zero was 0 at step 3)"]),
]


@pytest.mark.parametrize(
    ("text", "more", "reason", "fragments"), NOT_EVALUABLE, ids=[case[0] for case in NOT_EVALUABLE]
)
def test_missing_or_non_finite_values_fail_with_a_reason(
    text: str, more: Any, reason: str, fragments: list[str]
) -> None:
    finding = judged(text, **more)
    assert (finding.status, finding.reason) == ("fail", reason)
    assert [fragment for fragment in fragments if fragment not in finding.text] == []


def test_a_comparison_that_is_false_has_the_reason_criterion_failed() -> None:
    assert judged("loss > 2").reason == "criterion-failed"


def test_a_nan_at_another_step_does_not_hide_a_deadline_that_was_met() -> None:
    assert judged("broken < 0.6 by step 3").step == 3


def test_observed_is_the_side_with_the_metric() -> None:
    for text in ("max(grad_norm) < 500", "500 > max(grad_norm)"):
        assert (judged(text).observed, judged(text).bound) == (612.4, 500.0)


def test_of_two_values_at_one_step_the_newest_counts() -> None:
    series = {"x": [(0, 1.0), (5, 9.0), (5, 2.0), (3, 4.0)]}
    assert parse("max(x) == 4").judge(series, steps_run=5).status == "pass"
    assert parse("x == 2").judge(series, steps_run=5).status == "pass"


def test_a_finding_survives_json() -> None:
    finding = judged("latent_nll < 1.1 * text_nll")
    assert Finding.from_dict(json.loads(json.dumps(finding.to_dict()))) == finding


def test_data_has_every_value_that_entered_the_comparison() -> None:
    assert judged("latent_nll < 1.1 * text_nll").data == {
        "operands": [
            {"name": "latent_nll", "value": 2.3, "step": 400},
            {"name": "text_nll", "value": 1.8, "step": 400},
        ]
    }


# Reference: Python's own arithmetic on the same random expression, written as Python source.
values = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
PYTHON = {"mean": "MEAN", "first": "FIRST", "last": "LAST", "median": "MEDIAN", "max": "max", "min": "min"}


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> tuple[str, str]:
    """Draw an expression over the metrics `a` and `b`, and the same expression in Python over their lists of values."""
    kind = draw(st.sampled_from(["number", "metric", "call"] + ["binary", "negate", "paren"] * (depth > 0)))
    if kind == "number":
        text = repr(abs(draw(values)))
        return text, text
    if kind == "metric":
        name = draw(st.sampled_from("ab"))
        return name, f"{name}[-1]"
    if kind == "call":
        name, function = draw(st.sampled_from("ab")), draw(st.sampled_from(sorted(PYTHON)))
        return f"{function}({name})", f"{PYTHON[function]}({name})"
    ours, python = draw(expressions(depth=depth - 1))
    if kind == "negate":
        return f"-{ours}", f"-{python}"
    if kind == "paren":
        return f"({ours})", f"({python})"
    sign, (ours2, python2) = draw(st.sampled_from("+-*/")), draw(expressions(depth=depth - 1))
    return f"{ours} {sign} {ours2}", f"{python} {sign} {python2}"


@given(
    expressions(),
    st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
    expressions(),
    st.lists(values, min_size=1, max_size=5),
    st.lists(values, min_size=1, max_size=5),
)
def test_arithmetic_and_comparisons_agree_with_python(
    left: tuple[str, str], order: str, right: tuple[str, str], a: list[float], b: list[float]
) -> None:
    """A division by zero fails the criterion."""
    scope = {
        "a": a,
        "b": b,
        "MEAN": lambda x: math.fsum(x) / len(x),
        "MEDIAN": lambda x: (sorted(x)[len(x) // 2] + sorted(x)[(len(x) - 1) // 2]) / 2,
        "FIRST": lambda x: x[0],
        "LAST": lambda x: x[-1],
    }
    try:
        x, y = (eval(side[1], scope) for side in (left, right))
        holds = math.isfinite(x) and math.isfinite(y) and eval(f"x {order} y", {"x": x, "y": y})
    except ZeroDivisionError:
        holds = False
    series = {"a": list(enumerate(a)), "b": list(enumerate(b))}
    finding = parse(f"{left[0]} {order} {right[0]} + 0 * a").judge(series, steps_run=5)
    assert (finding.status == "pass") == holds


@given(st.lists(st.one_of(values, st.just(NAN)), min_size=1, max_size=8), values, st.integers(0, 9))
def test_by_step_n_is_pythons_any_over_the_values_up_to_n(points: list[float], bound: float, last: int) -> None:
    hits = [step for step, value in enumerate(points) if step <= last and operator.gt(value, bound)]
    sign = "-" if bound < 0 else ""
    finding = parse(f"x > {sign}{abs(bound)} by step {last}").judge(
        {"x": list(enumerate(points))}, steps_run=len(points)
    )
    assert (finding.status == "pass") == bool(hits)
    if hits:
        assert finding.step == hits[0]
