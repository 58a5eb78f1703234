"""What holds for every curve, by hypothesis."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_smoke.judge.curve.blocks import Blocks
from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict

ONE_RUN = settings(max_examples=60, deadline=None, derandomize=True)

seeds = st.integers(0, 10**6)
points = st.integers(40, 400)
sigmas = st.floats(0.001, 0.5)


@st.composite
def curves(draw: st.DrawFn) -> list[float]:
    """A descent with noise of some size and tail, and in half of them a rise of some size at some place."""
    random_draw = random.Random(draw(seeds))
    count, sigma = draw(points), draw(sigmas)
    onset, rise = draw(st.integers(5, count)), draw(st.sampled_from([0.0, 0.0, 0.1, 0.5, 3.0]))
    tail = draw(st.sampled_from([1.0, 1.0, 3.0]))
    return [
        1
        + 3 * (1 + step / 10) ** -0.7
        + rise * (step >= onset)
        + sigma * random_draw.gauss(0, 1) * random_draw.random() ** -(1 - 1 / tail)
        for step in range(count)
    ]


def run(losses: list[float], planned: int | None = None) -> CurveVerdict:
    judge = CurveJudge(planned_points=planned or len(losses))
    for step, loss in enumerate(losses):
        if judge.add(step, loss):
            break
    return judge.finish()


@given(curves(), st.integers(-20, 20))
@ONE_RUN
def test_the_unit_of_the_loss_does_not_matter(losses: list[float], power: int) -> None:
    """Powers of two, so that not even rounding differs."""
    found, scaled = run(losses), run([loss * 2.0**power for loss in losses])
    assert (scaled.verdict, scaled.reason, scaled.step) == (found.verdict, found.reason, found.step)
    if found.data.get("trough"):
        assert scaled.data["trough"][:2] == found.data["trough"][:2]
        assert scaled.data["trough"][2] == pytest.approx(found.data["trough"][2] * 2.0**power)


@given(curves(), st.sampled_from([-3.0, 7.0]))
@ONE_RUN
def test_the_noise_does_not_depend_on_where_zero_is(losses: list[float], shift: float) -> None:
    """Gates are shares of the level, so a verdict may move with zero; the certainty of a rise does not."""
    here, there = Blocks((1, 2, 4)), Blocks((1, 2, 4))
    for at in range(0, len(losses) - 4, 5):
        chunk = sorted(losses[at : at + 5])
        here.chunk(chunk)
        there.chunk([loss + shift for loss in chunk])
        assert there.close() == pytest.approx(here.close() + shift)
        ours = {seen.span: seen.sigma for seen in here.contrasts(1e-6, 1e-3)}
        theirs = {seen.span: seen.sigma for seen in there.contrasts(1e-6, 1e-3)}
        assert theirs == pytest.approx(ours, rel=1e-5)


@given(curves(), st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=50))
@ONE_RUN
def test_an_alarm_does_not_depend_on_what_follows(losses: list[float], after: list[float]) -> None:
    found = run(losses, planned=400)
    other = run(losses + after, planned=400)
    if found.verdict == "unstable":
        assert other == found
    elif other.verdict == "unstable":
        assert other.step is not None
        assert other.step >= len(losses)


@given(curves(), st.integers(1, 399))
@ONE_RUN
def test_looking_at_the_verdict_in_between_changes_nothing(losses: list[float], every: int) -> None:
    """Online and offline: `finish` may be asked at any time."""
    asked = CurveJudge(planned_points=len(losses))
    for step, loss in enumerate(losses):
        if step % every == 0:
            asked.finish(cut=True)
            asked.finish()
        asked.add(step, loss)
    assert asked.finish() == run(losses)


@given(curves(), st.data())
@ONE_RUN
def test_a_non_finite_value_anywhere_is_unstable_no_later_than_there(losses: list[float], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(losses) - 1))
    losses[at] = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    found = run(losses)
    assert found.verdict == "unstable"
    assert found.step is not None
    assert found.step <= at
    assert (found.reason == "non-finite") == (found.step == at)


@given(curves())
@ONE_RUN
def test_an_alarm_names_steps_in_order(losses: list[float]) -> None:
    found = run(losses)
    if found.reason == "rise":
        low_span, high_span = found.data["trough"], found.data["offence"]
        assert 0 <= low_span[0] <= low_span[1] < high_span[0] <= high_span[1] == found.step
        assert high_span[2] > low_span[2]
        assert found.data["last_good_step"] == low_span[1]
    elif found.verdict == "unstable":
        assert found.step is not None
        assert 0 <= found.data["last_good_step"] < found.step


@given(curves(), st.integers(2, 1000))
@ONE_RUN
def test_a_stride_changes_the_steps_and_nothing_else(losses: list[float], stride: int) -> None:
    judge = CurveJudge(planned_points=len(losses))
    for point, loss in enumerate(losses):
        judge.add(point * stride, loss)
    strided, found = judge.finish(), run(losses)
    assert (strided.verdict, strided.reason, strided.points) == (found.verdict, found.reason, found.points)
    assert strided.step == (None if found.step is None else found.step * stride)


@pytest.mark.parametrize(("shape", "most"), [("gaussian", 2), ("uniform", 6), ("lognormal", 8)])
def test_a_permuted_flat_series_rarely_alarms(shape: str, most: int) -> None:
    """Of 100 orders of the same values; noise of 30 % and more lets the divergence rule use its allowance."""
    draw = random.Random(0)
    values = {
        "gaussian": [2 + draw.gauss(0, 0.3) for _ in range(500)],
        "uniform": [1 + draw.random() for _ in range(500)],
        "lognormal": [math.exp(draw.gauss(0, 0.5)) for _ in range(500)],
    }[shape]
    alarms = 0
    for _ in range(100):
        draw.shuffle(values)
        alarms += run(values).verdict == "unstable"
    assert alarms <= most
