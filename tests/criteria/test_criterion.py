"""What a criterion says of a run."""

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
    known = {
        "baseline": {"f1": 0.3},
        "steps_run": 500,
        "stages": {"A": (0, 99), "B": (100, 199)},
        "steps_per_epoch": 100,
    }
    return parse(text).judge(RUN, **{**known, **more})


SAYS = [
    ("max(grad_norm) < 500", "fail", 311, "max(grad_norm) = 612.4 at step 311, must be < 500"),
    ("grad_norm < 500", "pass", 499, "grad_norm = 8 at step 499, must be < 500"),
    ("grad_norm < 500 at end", "pass", 499, "grad_norm = 8 at step 499, must be < 500 at end"),
    ("500 > max(grad_norm)", "fail", 311, "500, must be > max(grad_norm) = 612.4 at step 311"),
    ("last(loss) <= 0.9 * first(loss)", "pass", 499, "must be <= 0.9 * first(loss) = 4.5 (first(loss) = 5 at step 0)"),
    ("mean(loss over stage B) < 2", "fail", None, "mean(loss over stage B) = 3.505, must be < 2"),
    ("mean(loss) < 4 over stage B", "pass", None, "mean(loss) = 3.505, must be < 4 over stage B"),
    ("median(loss over steps 0-2) == 4.99", "pass", None, "median(loss over steps 0-2) = 4.99"),
    (
        "min(loss over stage A) < loss",
        "fail",
        99,
        "min(loss over stage A) = 4.01 at step 99, must be < loss = 0.01 at step 499",
    ),
    ("`val/f1` > 0.1", "fail", 499, "`val/f1` = 0.08 at step 499, must be > 0.1"),
    (
        "`val/f1` > 0.1 by step 400",
        "pass",
        200,
        "`val/f1` = 0.15 at step 200, must be > 0.1 by step 400: first reached",
    ),
    ("`val/f1` > 0.1 by step 200", "pass", 200, "first reached there"),
    ("`val/f1` > 0.1 by step 199", "fail", 100, "= 0.05 at step 100, must be > 0.1 by step 199: the closest it came"),
    ("`val/f1` > 0.1 by epoch 2", "pass", 200, "by epoch 2: first reached there"),
    ("`val/f1` > 0.1 by epoch 1", "fail", 100, "by epoch 1: the closest it came"),
    ("`val/f1` > 0.2 by step 900", "fail", 200, "the closest it came; the run ended at step 500, before step 900"),
    ("`val/f1` > 0.1 by step 900", "pass", 200, "the run ended at step 500, before step 900"),
    ("`val/f1` > 0.1 over stage A by step 400", "fail", None, "no point in steps 0-99"),
    ("max(grad_norm) < 500 by step 100", "pass", 0, "max(grad_norm) = 3 at step 0, must be < 500 by step 100"),
    ("latent_nll < 1.1 * text_nll", "fail", 400, "latent_nll = 2.3 at step 400, must be < 1.1 * text_nll = 1.98"),
    ("latent_nll < 1.1 * text_nll by step 400", "pass", 200, "latent_nll = 1.2 at step 200"),
    ("latent_nll < 1.1 * text_nll by step 150", "fail", None, "latent_nll has no point up to step 150"),
    ("latent_nll < grad_norm by step 450", "fail", None, "latent_nll and grad_norm share no step up to step 450"),
    ("max(latent_nll / text_nll) < 2", "pass", 400, "max(latent_nll / text_nll) = 1.27778 at step 400"),
    ("latent_nll - text_nll < 1", "pass", 400, "= 0.5 (latent_nll = 2.3 at step 400, text_nll = 1.8 at step 400)"),
    ("`val/f1` > 0.5 * baseline.f1", "fail", 499, "must be > 0.5 * baseline.f1 = 0.15 (baseline.f1 = 0.3)"),
    ("loss < 0.0099999999999", "fail", 499, "loss = 0.009999999999999787 at step 499, must be < 0.0099999999999"),
]


@pytest.mark.parametrize(("text", "status", "step", "says"), SAYS, ids=[case[0] for case in SAYS])
def test_what_a_criterion_says(text: str, status: str, step: int | None, says: str) -> None:
    """Status, deciding step and sentence of each form of the language."""
    finding = judged(text)
    assert (finding.status, finding.step) == (status, step)
    assert says in finding.text
    assert finding.id == f"accept[{text}]"
    assert (finding.reason == "") == (status == "pass")


CANNOT = [
    ("f1 > 0.1", {}, "missing-metric", ["metric f1 was never recorded", "did you mean `val/f1`?"]),
    ("latent_nl > 0.1", {}, "missing-metric", ["did you mean latent_nll?"]),
    ("never > 0.1", {}, "missing-metric", ["metric never was never recorded"]),
    ("xyzzy > 0.1", {}, "missing-metric", ["known:", "grad_norm", "`val/f1`"]),
    ("loss < qqq by step 9", {}, "missing-metric", ["qqq"]),
    ("max(loss + qqq) < 2", {}, "missing-metric", ["qqq"]),
    ("loss > baseline.f2", {}, "missing-metric", ["baseline run has no metric f2", "did you mean f1?"]),
    ("loss > baseline.f1", {"baseline": None}, "missing-baseline", ["no baseline run is given"]),
    ("loss < 2 over stage C", {}, "unknown-stage", ["no stage C", "known: A, B"]),
    ("loss < 2 over stage C", {"stages": {}}, "unknown-stage", ["no stage C", "nothing was"]),
    ("loss < 2 over steps 400-501", {}, "too-short", ["never made", "500"]),
    ("loss < 2 by epoch 3", {"steps_per_epoch": None}, "no-epochs", ["'by epoch 3'"]),
    ("text_nll < 2 over steps 0-50", {}, "no-points", ["text_nll has no point in steps 0-50", "100-400"]),
    ("broken < 9 over steps 2-2", {}, "non-finite", ["broken = NaN at step 2", "not finite"]),
    ("max(broken) < 9", {}, "non-finite", ["max(broken) = NaN at step 2"]),
    ("min(broken) > 0", {}, "non-finite", ["NaN at step 2"]),
    ("mean(broken) < 9", {}, "non-finite", ["NaN at step 2"]),
    ("median(broken) != 9", {}, "non-finite", ["NaN at step 2"]),
    ("huge > 1", {}, "non-finite", ["huge = inf at step 1"]),
    ("1 / zero != 5", {}, "non-finite", ["1 / zero = NaN (zero = 0 at step 3)"]),
]


@pytest.mark.parametrize(("text", "more", "reason", "fragments"), CANNOT, ids=[case[0] for case in CANNOT])
def test_what_cannot_be_met_fails_and_says_why(text: str, more: Any, reason: str, fragments: list[str]) -> None:
    """What was not recorded, not given or not finite fails with a reason for scripts and a sentence for people."""
    finding = judged(text, **more)
    assert (finding.status, finding.reason) == ("fail", reason)
    assert [fragment for fragment in fragments if fragment not in finding.text] == []


def test_a_nan_on_the_way_does_not_hide_a_mark_reached() -> None:
    """`by` looks for one step at which the comparison held; a NaN at another is none."""
    assert judged("broken < 0.6 by step 3").step == 3


def test_observed_is_the_metrics_side() -> None:
    """`observed` is the side with the metric, whichever it stands on."""
    for text in ("max(grad_norm) < 500", "500 > max(grad_norm)"):
        assert (judged(text).observed, judged(text).bound) == (612.4, 500.0)


def test_a_step_recorded_twice_counts_once() -> None:
    """The newest value of a step is its value, in whatever order steps were recorded."""
    series = {"x": [(0, 1.0), (5, 9.0), (5, 2.0), (3, 4.0)]}
    assert parse("max(x) == 4").judge(series, steps_run=5).status == "pass"
    assert parse("x == 2").judge(series, steps_run=5).status == "pass"


def test_a_finding_is_plain_data() -> None:
    """A finding crosses JSON unchanged."""
    finding = judged("latent_nll < 1.1 * text_nll")
    assert Finding.from_dict(json.loads(json.dumps(finding.to_dict()))) == finding


# The oracle: Python's own arithmetic on Python's own text of the same random tree.
values = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
PYTHON = {"mean": "MEAN", "first": "FIRST", "last": "LAST", "median": "MEDIAN", "max": "max", "min": "min"}


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> tuple[str, str]:
    """A criterion's expression over `a` and `b`, and the same for Python over lists of them."""
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
    ours, theirs = draw(expressions(depth=depth - 1))
    if kind == "negate":
        return f"-{ours}", f"-{theirs}"
    if kind == "paren":
        return f"({ours})", f"({theirs})"
    sign, (ours2, theirs2) = draw(st.sampled_from("+-*/")), draw(expressions(depth=depth - 1))
    return f"{ours} {sign} {ours2}", f"{theirs} {sign} {theirs2}"


@given(
    expressions(),
    st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
    expressions(),
    st.lists(values, min_size=1, max_size=5),
    st.lists(values, min_size=1, max_size=5),
)
def test_comparisons_agree_with_python(
    left: tuple[str, str], order: str, right: tuple[str, str], a: list[float], b: list[float]
) -> None:
    """Precedence, functions and comparisons are those of Python's floats; a division by zero fails."""
    scope = {
        "a": a,
        "b": b,
        "MEAN": lambda x: math.fsum(x) / len(x),
        "MEDIAN": lambda x: (sorted(x)[len(x) // 2] + sorted(x)[(len(x) - 1) // 2]) / 2,
        "FIRST": lambda x: x[0],
        "LAST": lambda x: x[-1],
    }
    try:
        one, other = (eval(side[1], scope) for side in (left, right))
        held = math.isfinite(one) and math.isfinite(other) and eval(f"x {order} y", {"x": one, "y": other})
    except ZeroDivisionError:
        held = False
    series = {"a": list(enumerate(a)), "b": list(enumerate(b))}
    finding = parse(f"{left[0]} {order} {right[0]} + 0 * a").judge(series, steps_run=5)
    assert (finding.status == "pass") == held


@given(st.lists(st.one_of(values, st.just(NAN)), min_size=1, max_size=8), values, st.integers(0, 9))
def test_by_is_any_up_to(points: list[float], bound: float, last: int) -> None:
    """`x > v by step N` is Python's any() over the points up to N, and names the first of them."""
    hits = [step for step, value in enumerate(points) if step <= last and operator.gt(value, bound)]
    sign = "-" if bound < 0 else ""
    finding = parse(f"x > {sign}{abs(bound)} by step {last}").judge(
        {"x": list(enumerate(points))}, steps_run=len(points)
    )
    assert (finding.status == "pass") == bool(hits)
    if hits:
        assert finding.step == hits[0]
