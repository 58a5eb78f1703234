"""How far a loss is from an alarm, as it is shown while a run trains."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.judge.curve.curve_judge import CurveJudge
from pytest_smoke.judge.curve.trend import MIN_BLOCKS_TESTED, Trend


def test_there_is_no_distance_before_a_rise_is_tested() -> None:
    trend = Trend(600)
    for step in range(MIN_BLOCKS_TESTED * trend.block_points):
        assert trend.alarm_distance() is None
        trend.add(step, 1.0)
    assert trend.alarm_distance() is not None


@given(st.integers(0, 1000), st.floats(0.0, 0.3), st.floats(0.001, 0.05))
def test_no_rise_is_detected_far_from_where_the_distance_says_so(seed: int, height: float, noise: float) -> None:
    """The distance is that on the linear scale; a rise may be detected earlier on the logarithmic one."""
    draw = random.Random(seed)
    trend = Trend(600)
    for step in range(600):
        level = 1.0 if step < 300 else 1.0 + height * (step - 300) / 300
        rise = trend.add(step, level + draw.gauss(0, noise))
        if trend.open_points or (distance := trend.alarm_distance()) is None:
            continue
        assert distance.alarm > 0
        assert distance.rise >= 0
        if rise is not None:
            assert distance.share > 0.5


def test_the_distance_grows_as_the_loss_rises() -> None:
    draw, judge = random.Random(0), CurveJudge(planned_points=1000)
    shares = []
    for step in range(1000):
        loss = 2.0 - step / 800 if step < 800 else 1.0 + (step - 800) / 2000
        if judge.add(step, loss + draw.gauss(0, 0.01)) is not None:
            break
        if step % 100 == 99 and (distance := judge.alarm_distance()) is not None:
            shares.append(distance.share)
    assert shares[0] < 0.5
    assert step > 800, "the rise was detected"
