"""NaN, infinity, skipped fp16 steps, and exact zeros that replace a NaN."""

from __future__ import annotations

import math

import pytest

from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from tests.judge.curve.curves import POINTS, decay, judge


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
@pytest.mark.parametrize("at", [0, 1, 17, 999])
def test_non_finite_loss_is_unstable_at_its_step(bad: float, at: int) -> None:
    losses = decay()
    losses[at] = bad
    verdict = judge(losses)
    assert (verdict.verdict, verdict.reason, verdict.step, verdict.series) == ("unstable", "non-finite", at, "loss")
    assert verdict.data["last_good_step"] == (at - 1 if at else None)
    assert f"at step {at}" in verdict.text


@pytest.mark.parametrize("loss", [1.0, math.nan])
def test_nan_in_one_term_names_the_term(loss: float) -> None:
    curve_judge = CurveJudge(planned_points=100)
    curve_judge.add(0, 1.0, terms={"ce": 0.5, "crf": 0.5})
    verdict = curve_judge.add(1, loss, terms={"ce": 0.5, "crf": math.nan})
    assert verdict is not None
    assert (verdict.series, verdict.step, verdict.text) == ("crf", 1, "crf is NaN at step 1")


def judge_with_infinite_norms(steps: set[int]) -> CurveVerdict:
    curve_judge = CurveJudge(planned_points=POINTS)
    for step, loss in enumerate(decay()):
        curve_judge.add(step, loss, grad_norm=math.inf if step in steps else 1.0)
    return curve_judge.finish()


def test_16_skipped_fp16_steps_in_a_row_are_noted() -> None:
    verdict = judge_with_infinite_norms({0, 1, 5, *range(100, 116)})
    assert verdict.verdict == "promote"
    assert any("19 points with a finite loss" in note for note in verdict.notes)


def test_17_skipped_fp16_steps_in_a_row_are_unstable() -> None:
    verdict = judge_with_infinite_norms(set(range(100, 117)))
    expected = ("unstable", "non-finite", "grad_norm", 116)
    assert (verdict.verdict, verdict.reason, verdict.series, verdict.step) == expected


def test_last_good_step_is_before_the_first_non_finite_gradient() -> None:
    curve_judge = CurveJudge(planned_points=100)
    for step in range(20):
        curve_judge.add(step, 1.0, grad_norm=math.nan if step >= 18 else 1.0)
    verdict = curve_judge.add(20, math.nan, grad_norm=math.nan)
    assert verdict is not None
    assert verdict.data["last_good_step"] == 17


def test_sudden_exact_zeros_are_a_replaced_nan() -> None:
    verdict = judge(decay()[:500] + [0.0] * 500)
    assert (verdict.verdict, verdict.reason, verdict.step) == ("unstable", "non-finite", 507)


def test_loss_that_underflows_to_zero_promotes() -> None:
    smooth = [5.0 * math.exp(-step / 12) for step in range(POINTS)]
    assert judge([loss if loss > 1e-30 else 0.0 for loss in smooth]).verdict == "promote"


def test_zero_loss_with_a_nan_gradient_is_a_replaced_nan() -> None:
    curve_judge = CurveJudge(planned_points=100)
    curve_judge.add(0, 2.0, grad_norm=1.0)
    verdict = curve_judge.add(1, 0.0, grad_norm=math.nan)
    assert verdict is not None
    assert "exactly 0" in verdict.text
