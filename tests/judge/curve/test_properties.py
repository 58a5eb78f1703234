"""Properties of every curve's verdict, tested with Hypothesis."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from pytest_smoke.judge.curve.trend import BlockMeans

ONE_RUN = settings(max_examples=60, deadline=None, derandomize=True)

seeds = st.integers(0, 10**6)
points = st.integers(40, 400)
sigmas = st.floats(0.001, 0.5)


@st.composite
def curves(draw: st.DrawFn) -> list[float]:
    """Draw a descent with noise; three in five have a lasting rise somewhere, one in three a heavy tail."""
    rng = random.Random(draw(seeds))
    count, sigma = draw(points), draw(sigmas)
    start, rise = draw(st.integers(5, count)), draw(st.sampled_from([0.0, 0.0, 0.1, 0.5, 3.0]))
    tail = draw(st.sampled_from([1.0, 1.0, 3.0]))
    return [
        1
        + 3 * (1 + step / 10) ** -0.7
        + rise * (step >= start)
        + sigma * rng.gauss(0, 1) * rng.random() ** -(1 - 1 / tail)
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
def test_verdict_does_not_depend_on_the_unit_of_the_loss(losses: list[float], power: int) -> None:
    # Scaling by a power of 2 rounds nothing.
    verdict, scaled = run(losses), run([loss * 2.0**power for loss in losses])
    assert (scaled.verdict, scaled.reason, scaled.step) == (verdict.verdict, verdict.reason, verdict.step)
    if verdict.data.get("low_span"):
        assert scaled.data["low_span"][:2] == verdict.data["low_span"][:2]
        assert scaled.data["low_span"][2] == pytest.approx(verdict.data["low_span"][2] * 2.0**power)


@given(curves(), st.sampled_from([-3.0, 7.0]))
@ONE_RUN
def test_significance_does_not_depend_on_an_offset(losses: list[float], shift: float) -> None:
    """Minimum rises are shares of the level, so a verdict may depend on an offset."""
    here, there = BlockMeans((1, 2, 4)), BlockMeans((1, 2, 4))
    for at in range(0, len(losses) - 4, 5):
        chunk = sorted(losses[at : at + 5])
        here.add_chunk(chunk)
        there.add_chunk([loss + shift for loss in chunk])
        assert there.close_block() == pytest.approx(here.close_block() + shift)
        deviations = {contrast.blocks: contrast.deviation for contrast in here.contrasts(1e-6, 1e-3)}
        shifted = {contrast.blocks: contrast.deviation for contrast in there.contrasts(1e-6, 1e-3)}
        assert shifted == pytest.approx(deviations, rel=1e-5)


@given(curves(), st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=50))
@ONE_RUN
def test_unstable_verdict_does_not_depend_on_later_points(losses: list[float], after: list[float]) -> None:
    verdict = run(losses, planned=400)
    other = run(losses + after, planned=400)
    if verdict.verdict == "unstable":
        assert other == verdict
    elif other.verdict == "unstable":
        assert other.step is not None
        assert other.step >= len(losses)


@given(curves(), st.integers(1, 399))
@ONE_RUN
def test_finish_in_between_does_not_change_the_verdict(losses: list[float], every: int) -> None:
    asked = CurveJudge(planned_points=len(losses))
    for step, loss in enumerate(losses):
        if step % every == 0:
            asked.finish(ended_early=True)
            asked.finish()
        asked.add(step, loss)
    assert asked.finish() == run(losses)


@given(curves(), st.data())
@ONE_RUN
def test_non_finite_loss_is_unstable_no_later_than_its_step(losses: list[float], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(losses) - 1))
    losses[at] = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    verdict = run(losses)
    assert verdict.verdict == "unstable"
    assert verdict.step is not None
    assert verdict.step <= at
    assert (verdict.reason == "non-finite") == (verdict.step == at)


@given(curves())
@ONE_RUN
def test_steps_of_an_unstable_verdict_are_in_order(losses: list[float]) -> None:
    verdict = run(losses)
    if verdict.reason == "rise":
        low_span, high_span = verdict.data["low_span"], verdict.data["high_span"]
        assert 0 <= low_span[0] <= low_span[1] < high_span[0] <= high_span[1] <= verdict.step
        assert high_span[2] > low_span[2]
        assert verdict.data["last_good_step"] == low_span[1]
    elif verdict.verdict == "unstable":
        assert verdict.step is not None
        assert 0 <= verdict.data["last_good_step"] < verdict.step


@given(curves(), st.integers(2, 1000))
@ONE_RUN
def test_stride_changes_only_the_steps(losses: list[float], stride: int) -> None:
    judge = CurveJudge(planned_points=len(losses))
    for point, loss in enumerate(losses):
        judge.add(point * stride, loss)
    strided, verdict = judge.finish(), run(losses)
    assert (strided.verdict, strided.reason, strided.points) == (verdict.verdict, verdict.reason, verdict.points)
    assert strided.step == (None if verdict.step is None else verdict.step * stride)


@pytest.mark.parametrize(("shape", "most"), [("gaussian", 2), ("uniform", 6), ("lognormal", 8)])
def test_shuffled_flat_series_is_rarely_unstable(shape: str, most: int) -> None:
    """Of 100 permutations; with noise of 30 % and more, divergence reaches its allowed chance of a false alarm."""
    draw = random.Random(0)
    values = {
        "gaussian": [2 + draw.gauss(0, 0.3) for _ in range(500)],
        "uniform": [1 + draw.random() for _ in range(500)],
        "lognormal": [math.exp(draw.gauss(0, 0.5)) for _ in range(500)],
    }[shape]
    unstable = 0
    for _ in range(100):
        draw.shuffle(values)
        unstable += run(values).verdict == "unstable"
    assert unstable <= most


@st.composite
def clear_curves(draw: st.DrawFn) -> tuple[list[float], str]:
    """Draw a descent with moderate noise, and in half of the cases a lasting rise by its final level or more."""
    rng = random.Random(draw(seeds))
    count, sigma = draw(st.integers(300, 1200)), draw(st.floats(0.01, 0.08))
    start, rise = draw(st.integers(count // 3, 2 * count // 3)), draw(st.sampled_from([0.0, 1.0, 3.0]))
    losses = [
        (1 + 3 * (1 + step / 20) ** -0.7 + rise * (step >= start)) * (1 + sigma * rng.gauss(0, 1))
        for step in range(count)
    ]
    return losses, "unstable" if rise else "promote"


@given(clear_curves())
@ONE_RUN
def test_logging_density_does_not_change_a_clear_verdict(curve: tuple[list[float], str]) -> None:
    losses, expected = curve
    opposite = {"promote": "unstable", "unstable": "promote"}[expected]
    assert run(losses).verdict == expected
    logged = {
        "every second point": losses[::2],
        "every third point": losses[1::3],
        "means of two": [(a + b) / 2 for a, b in zip(losses[::2], losses[1::2], strict=False)],
        "means of four": [sum(losses[at : at + 4]) / 4 for at in range(0, len(losses) - 3, 4)],
        "every point twice": [loss for loss in losses for _ in range(2)],
        "running means of three": [sum(losses[at : at + 3]) / 3 for at in range(len(losses) - 2)],
        "four decimals": [round(loss, 4) for loss in losses],
        "in other units": [loss * 1234.5 for loss in losses],
    }
    assert {how: run(points).verdict for how, points in logged.items() if run(points).verdict == opposite} == {}
