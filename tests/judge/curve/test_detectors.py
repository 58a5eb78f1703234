"""Spikes, divergence from the first losses, and divergence at once."""

from __future__ import annotations

import math
import random

import pytest

from pytest_smoke.judge.curve.curve_judge import CurveJudge
from pytest_smoke.judge.curve.detectors import (
    FALSE_DIVERGENCE_CHANCE,
    FALSE_SPIKE_CHANCE,
    exceedance_rules,
    min_spike_points,
)
from tests.judge.curve.curves import POINTS, decay, judge


def test_spike_that_lasts_is_unstable() -> None:
    losses = decay()
    verdict = judge(losses[:500] + [9.0] * 16 + losses[516:])
    assert verdict.verdict == "unstable"
    assert 500 < verdict.step < 516
    assert verdict.data["last_good_step"] < 500


def test_spike_after_a_steep_start_is_compared_with_few_points() -> None:
    """The 50 points before it hold the whole descent, so none of its losses is above all of them."""
    descent = [9.0 * 0.8**step + 1.0 + 0.01 * (step % 3) for step in range(30)]
    losses = [
        *descent,
        *[1.6 + 0.01 * (step % 3) for step in range(40)],
        *[1.0 + 0.01 * (step % 3) for step in range(1930)],
    ]
    verdict = judge(losses)
    assert verdict.verdict == "unstable"
    assert 30 < verdict.step < 70


def test_sequence_far_above_everything_before_it_diverges() -> None:
    losses = [1.3 + 0.01 * (step % 5) for step in range(12)] + [900.0, 400.0, 500.0, 300.0]
    verdict = judge(losses)
    assert (verdict.verdict, verdict.reason, verdict.step) == ("unstable", "divergence", 15)
    assert "loss diverged to at least 300 in each of the 4 points up to step 15, 224 times the highest" in verdict.text


@pytest.mark.parametrize(
    "losses",
    [
        [1.3, 1.2, 1.25, 1.2, 34_000.0],
        [1.6, 1.4, 3.3, 6.4, 5.5, 4.9, 4.9, 4.6],
        [1.7, 11.5, 11.7, 11.5, 11.5, 12.2, 10.0, 10.9, 10.5],
    ],
)
def test_short_log_that_ends_far_above_its_start_diverged(losses: list[float]) -> None:
    verdict = judge(losses)
    assert (verdict.verdict, verdict.reason) == ("unstable", "divergence")


@pytest.mark.parametrize(
    "losses", [[1.3, 1.2, 1.25, 1.2, 2.0], [1.6, 4.0, 1.5, 1.4], [3.0, 2.0, 9.1, 1.5], [-1.0, 5.0, 9.0, 9.0, 9.0, 9.0]]
)
def test_short_log_that_moves_less_is_too_short(losses: list[float]) -> None:
    assert judge(losses).reason == "too-short"


def test_loss_that_swings_by_decades_is_unstable() -> None:
    """Its noise is taken from the swings, so no rise is significant."""
    rng = random.Random(0)
    losses = [10.0 ** (1.5 * math.sin(step / 9) + 0.3 * rng.gauss(0, 1)) for step in range(400)]
    verdict = judge(losses)
    assert verdict.verdict == "unstable"


def test_noise_of_a_converged_loss_does_not_swing() -> None:
    rng = random.Random(0)
    losses = [10 * 0.95**step + 10.0 ** (-5 + math.sin(step / 9) + 0.2 * rng.gauss(0, 1)) for step in range(600)]
    assert judge(losses).verdict == "promote"


def test_spike_is_as_high_as_its_median() -> None:
    losses = [2.0 + 0.02 * (step % 7) for step in range(300)]
    spike = [2.15, 2.9, 3.0, 2.6, 2.8]
    verdict = judge(losses[:200] + spike + losses[200:], planned_points=305)
    assert (verdict.verdict, verdict.reason) == ("unstable", "spike")
    assert verdict.data["high_span"][2] > 2.7


def test_spike_of_one_point_promotes() -> None:
    losses = decay()
    assert judge([*losses[:500], 9.0, *losses[501:]]).verdict == "promote"


@pytest.mark.parametrize("points", [100, 2500, 50_000])
def test_spike_is_the_shortest_streak_that_chance_rarely_makes(points: int) -> None:
    p = min_spike_points(50, points)
    assert math.comb(50 + p, p) >= points / FALSE_SPIKE_CHANCE > math.comb(50 + p - 1, p - 1)


def test_spike_needs_five_points_in_a_curve_of_2500() -> None:
    assert min_spike_points(50, 2500) == 5


def test_run_that_never_reached_a_low_level_diverges() -> None:
    """The first 25 losses are near 2; then the noise is too large for blocks to agree on a level."""
    rng = random.Random(1)
    wild = [4.0 * math.exp(rng.gauss(0, 2.0)) for _ in range(POINTS)]
    losses = [2.0 + 0.1 * rng.random() if step < 25 else wild[step] for step in range(POINTS)]
    verdict = judge(losses)
    assert (verdict.verdict, verdict.reason) == ("unstable", "divergence")
    assert 25 < verdict.step < 65
    assert verdict.data["last_good_step"] < 25
    assert "of the last" in verdict.text
    assert "(median of steps 0-" in verdict.text
    assert " (+" in verdict.text


@pytest.mark.parametrize("size", [8, 12, 25])
def test_exchangeable_noise_diverges_no_more_often_than_allowed(size: int) -> None:
    """Simulate the bound: m of the newest n losses above the j-th largest of the first n."""
    rng = random.Random(size)
    rules = exceedance_rules(size, planned_points=size)
    assert rules
    hits = dict.fromkeys(rules, 0)
    for _ in range(4000):
        first, newest = ([rng.random() for _ in range(size)] for _ in range(2))
        first.sort()
        for m, j in rules:
            hits[m, j] += sum(value > first[-j] for value in newest) >= m
    assert max(hits.values()) / 4000 < 2 * FALSE_DIVERGENCE_CHANCE


BLOWN_UP = [1.5, 11.0, 14.0] + [13.0 + (step % 2) for step in range(197)]
RECOVERING = [0.196, 0.145] + [12.0 * 0.9**step + 0.2 for step in range(198)]


@pytest.mark.parametrize(
    ("losses", "step"), [(BLOWN_UP, 24), (RECOVERING, 5), ([1.0, 40.0, 50.0, 31.0, 1e3] + [2.0] * 195, 4)]
)
def test_run_that_blows_up_at_once_diverges_from_its_first_loss(losses: list[float], step: int) -> None:
    """The median of the first eight losses is already high, and a later recovery does not matter."""
    verdict = judge(losses)
    assert (verdict.verdict, verdict.reason, verdict.step) == ("unstable", "divergence", step)
    assert verdict.data["last_good_step"] is None


def test_blow_up_names_the_first_loss_and_the_streak() -> None:
    expected = "loss diverged from 1.5 (step 0) to at least 11 in each of the 24 points up to step 24"
    assert expected in judge(BLOWN_UP).text


def test_early_hump_below_three_times_the_first_loss_is_no_divergence() -> None:
    assert judge([1.0] + [2.9] * 30 + [3.0 - step / 100 for step in range(200)]).reason != "divergence"


def test_blow_up_after_an_expected_jump_diverges() -> None:
    before = [3.0 - step / 100 for step in range(100)]
    curve_judge = CurveJudge(planned_points=400, expected_jumps=[100])
    after = [15.0, *[700.0 * 0.98**step for step in range(200)]]
    losses = enumerate([*before, *after])
    found = next(verdict for step, loss in losses if (verdict := curve_judge.add(step, loss)))
    assert (found.reason, found.step, found.data["last_good_step"]) == ("divergence", 104, 100)


def hump(step: int, height: float) -> float:
    """Return an overshoot of the first 30 steps."""
    return height * max(0.0, 1 - abs(step - 15) / 15)


@pytest.mark.parametrize(
    ("loss_height", "score_height", "verdict"),
    [
        pytest.param(1.0, 0.5, "unstable", id="both worse than untrained"),
        pytest.param(1.0, 0.0, "promote", id="only the loss"),
        pytest.param(0.0, 0.5, "promote", id="only one score"),
        pytest.param(1.0, 0.1, "promote", id="score hardly worse"),
    ],
)
def test_first_updates_that_make_the_model_worse_are_unstable(
    loss_height: float, score_height: float, verdict: str
) -> None:
    rng = random.Random(5)
    judging = CurveJudge(planned_points=1000)
    for step in range(1000):
        level = 4.0 - 2.0 * min(1.0, max(0, step - 30) / 500)
        score = level + hump(step, score_height) + rng.gauss(0, 0.002) if step % 25 == 0 or step == 15 else None
        if judging.add(step, level + hump(step, loss_height) + rng.gauss(0, 0.1), probe_loss=score):
            break
    seen = judging.finish()
    assert seen.verdict == verdict, seen.text
    if verdict == "unstable":
        assert (seen.reason, seen.series, seen.step) == ("divergence", "probe_loss", 15)
        assert seen.data["last_good_step"] == 0


def test_scores_say_nothing_about_an_untrained_model_after_an_expected_jump() -> None:
    judging = CurveJudge(planned_points=400, expected_jumps=[100])
    for step in range(400):
        level = (2.0 if step < 100 else 5.0) - 0.001 * step + 0.02 * (step % 3)
        judging.add(step, level, probe_loss=level if step % 10 == 0 else None)
    assert judging.finish().verdict == "promote"
