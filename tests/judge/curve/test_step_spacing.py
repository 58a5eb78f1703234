"""Notes on the spacing of the logged steps."""

from __future__ import annotations

from pytest_smoke.judge.curve.curve_judge import CurveJudge
from tests.judge.curve.curves import decay


def test_logged_first_step_is_no_gap() -> None:
    curve_judge = CurveJudge(planned_points=81)
    for step, loss in zip([1, *range(10, 810, 10)], decay(81, sigma=0.01), strict=True):
        curve_judge.add(step, loss, lr=1e-3)
    assert curve_judge.finish().notes == ("one point for every 10 steps",)


def test_gaps_and_decreasing_steps_are_noted() -> None:
    curve_judge = CurveJudge(planned_points=300)
    losses = iter(decay(300, sigma=0.01))
    for step in (*range(100), *range(150, 300), *range(290, 340)):
        curve_judge.add(step, next(losses))
    notes = curve_judge.finish().notes
    assert "1 gap in the steps, the widest from 99 to 150" in notes
    assert "the step number does not increase at 1 point" in notes
