"""The judge of a full run: unknown length, a decaying learning rate, instability that is over."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_smoke.logs.log import Point
from pytest_smoke.watch.full_run_judge import ASSUMED_POINTS, OVER_POINTS, FullRunJudge


def curve(count: int, *, rises_at: int | None = None, until: int | None = None, level: float = 2.0) -> list[Point]:
    """Return a falling, noisy loss, higher by `level` from one step to another, at a cosine learning rate."""
    noise = random.Random(0)
    points = []
    for step in range(count):
        is_high = rises_at is not None and rises_at <= step < (until or count)
        loss = 1 + 2 * math.exp(-step / 80) + noise.gauss(0, 0.03) + level * is_high
        points.append(Point(step=step, loss=loss, lr=0.5 + 0.5 * math.cos(math.pi * step / count)))
    return points


@pytest.mark.parametrize("count", [400, 3 * ASSUMED_POINTS])
def test_a_healthy_cosine_run_of_unknown_length_is_never_unstable(count: int) -> None:
    judge, points = FullRunJudge(None), curve(count)
    assert all(judge.update(points[:end]) is None for end in range(0, count + 1, 50))
    assert judge.points == count


@pytest.mark.parametrize("planned", [None, 600])
def test_a_rise_is_unstable_with_its_last_good_step(planned: int | None) -> None:
    judge, points = FullRunJudge(planned), curve(600, rises_at=300)
    verdict = next(found for end in range(600) if (found := judge.update(points[:end])) is not None)
    assert (verdict.verdict, verdict.step) == ("unstable", pytest.approx(310, abs=15))
    assert verdict.data["last_good_step"] == pytest.approx(297, abs=4)
    assert judge.update(points) == verdict


def test_a_rise_that_is_over_is_reported_but_not_unstable() -> None:
    judge, points = FullRunJudge(None), curve(600, rises_at=200, until=260)
    assert judge.update(points) is None
    assert [verdict.step for verdict in judge.recovered] == [pytest.approx(210, abs=15)]
    assert FullRunJudge(None).update(points[:259]) is not None


def test_nan_is_over_if_the_loss_is_finite_again() -> None:
    points = curve(300)
    points[100] = points[100]._replace(loss=math.nan)
    judge = FullRunJudge(None)
    assert judge.update(points[: 100 + OVER_POINTS // 2]) is not None
    judge = FullRunJudge(None)
    assert judge.update(points) is None
    assert judge.update(points) is None  # the points with NaN are the same ones
    assert [verdict.reason for verdict in judge.recovered] == ["non-finite"]


def test_an_earlier_run_in_the_log_is_not_judged() -> None:
    earlier = curve(300, rises_at=200)
    later = [point._replace(step=point.step + 300) for point in curve(300)]
    assert FullRunJudge(None).update(earlier, history=300) is None
    assert FullRunJudge(None).update([*earlier, *later], history=300) is None
    broken = [*later[:200], *(point._replace(loss=9.0) for point in later[200:])]
    verdict = FullRunJudge(None).update([*earlier, *broken], history=300)
    assert verdict is not None
    assert verdict.step is not None
    assert verdict.step >= 500


def test_points_of_a_resumed_run_replace_those_before() -> None:
    judge, points = FullRunJudge(None), curve(600, rises_at=300, level=0.2)
    assert judge.update(points[:305]) is None
    assert judge.update(curve(600)) is None
    assert judge.points == 600


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(1, 399), max_size=4), rises_at=st.sampled_from([None, 150, 320]))
def test_the_verdict_does_not_depend_on_how_often_the_log_is_read(cuts: list[int], rises_at: int | None) -> None:
    points = curve(400, rises_at=rises_at)
    often, once = FullRunJudge(400), FullRunJudge(400)
    found = [verdict for end in [*sorted(cuts), 400] if (verdict := often.update(points[:end])) is not None]
    assert found[:1] == [verdict for verdict in [once.update(points)] if verdict is not None]
