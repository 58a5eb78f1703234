"""The fixed probe batch as a second series, and as the confirmation of a rise of the training loss."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from pytest_smoke.judge.curve.probe_batch import MAX_SCORES, OBVIOUS_RISE, Alarm, CandidateRise, RiseConfirmation
from tests.judge.curve.curves import decay

POINTS, EVERY, START = 1000, 25, 610


def level_at(step: int) -> float:
    return 1.8 + 2.7 * (1 + step / 15) ** -0.6


def judge(
    rise: Callable[[int], float], probe_rise: Callable[[int], float], *, every: int = EVERY, points: int = POINTS
) -> CurveVerdict:
    """Judge a run whose training loss rises by `rise(step)` and whose probe loss by `probe_rise(step)`."""
    rng = random.Random(1)
    curve_judge = CurveJudge(planned_points=points)
    for step in range(points):
        probe = level_at(step) + probe_rise(step) + rng.gauss(0, 0.005) if step % every == 0 else None
        if curve_judge.add(step, level_at(step) + rise(step) + rng.gauss(0, 0.05), probe_loss=probe):
            break
    return curve_judge.finish()


def from_start(by: float) -> Callable[[int], float]:
    return lambda step: by if step >= START else 0.0


def no_rise(step: int) -> float:
    return 0.0


@pytest.mark.parametrize("by", [0.3, 1.0, 2.5])
def test_rise_that_the_probe_batch_does_not_share_promotes(by: float) -> None:
    verdict = judge(from_start(by), no_rise)
    assert (verdict.verdict, verdict.reason) == ("promote", "")
    assert "training loss rose at step 6" in verdict.text
    assert "but the fixed probe batch did not" in verdict.text


@pytest.mark.parametrize("by", [0.3, 1.0, 2.5])
def test_rise_that_the_probe_batch_shares_is_unstable(by: float) -> None:
    verdict = judge(from_start(by), from_start(by / 2))
    assert verdict.verdict == "unstable"
    assert verdict.step is not None
    assert START < verdict.step <= START + 2 * EVERY
    assert verdict.data["last_good_step"] <= START


def test_rise_without_a_probe_batch_is_unstable_at_once() -> None:
    verdict = judge(from_start(1.0), no_rise, every=POINTS)
    assert verdict.verdict == "unstable"
    assert verdict.step is not None
    assert verdict.step < START + EVERY


def test_rise_to_three_times_the_level_needs_no_confirmation() -> None:
    level = level_at(START)
    verdict = judge(from_start(1.1 * OBVIOUS_RISE * level), no_rise)
    assert (verdict.verdict, verdict.series) == ("unstable", "loss")
    assert verdict.step is not None
    assert verdict.step < START - START % EVERY + EVERY


def test_rise_that_is_over_before_the_next_score_is_unstable() -> None:
    start, every = 505, 100
    verdict = judge(lambda step: 1.0 if start <= step < start + 10 else 0.0, no_rise, every=every)
    assert (verdict.verdict, verdict.reason, verdict.step) == ("unstable", "spike", 600)
    assert verdict.data["high_span"][0] == start


def test_overdue_score_is_not_waited_for() -> None:
    curve_judge = CurveJudge(planned_points=POINTS)
    rng = random.Random(0)
    verdict = None
    for step in range(POINTS):
        probe = level_at(step) if step % EVERY == 0 and step < 500 else None
        verdict = curve_judge.add(step, level_at(step) + (step >= 501) + rng.gauss(0, 0.05), probe_loss=probe)
        if verdict:
            break
    assert verdict is not None
    assert verdict.step == 475 + 2 * EVERY + 1


def test_run_that_ends_with_an_unconfirmed_rise_is_unstable() -> None:
    verdict = judge(lambda step: 1.0 if step >= 991 else 0.0, no_rise, every=330)
    assert (verdict.verdict, verdict.reason) == ("unstable", "spike")


def test_rise_after_a_rejected_one_is_unstable() -> None:
    def rise(step: int) -> float:
        return from_start(0.6)(step) + (0.6 if step >= 800 else 0.0)

    verdict = judge(rise, lambda step: 0.6 if step >= 800 else 0.0)
    assert verdict.verdict == "unstable"
    assert verdict.step is not None
    assert verdict.step > 800


def test_nan_during_an_unconfirmed_rise_is_non_finite() -> None:
    curve_judge = CurveJudge(planned_points=POINTS)
    for step in range(START + 10):
        rising = step >= START
        curve_judge.add(step, level_at(step) + rising, probe_loss=level_at(step) if step % EVERY == 0 else None)
    verdict = curve_judge.add(START + 10, math.nan)
    assert verdict is not None
    assert verdict.reason == "non-finite"


@given(
    before=st.floats(0.1, 10),
    change=st.floats(-5, 5),
    rise=st.floats(0.01, 1),
    gaps=st.lists(st.integers(1, 5), min_size=4, max_size=30),
)
def test_rise_is_confirmed_exactly_if_the_probe_loss_rises_by_a_quarter_of_it(
    before: float, change: float, rise: float, gaps: list[int]
) -> None:
    confirmation, step = RiseConfirmation(), 0
    for gap in gaps:
        step += gap
        confirmation.add_score(step, before)
    step += 1  # one step after the last score, the next one is not overdue
    candidate = CandidateRise(
        alarm=Alarm(reason="rise", text="", series="loss"),
        step=step,
        last_good_step=step - 1,
        first_step=step,
        level=1.0,
        rise=rise,
    )
    assert confirmation.can_check(candidate)
    confirmation.check(candidate)
    assert confirmation.decide(step) == "pending"
    confirmation.add_score(step + 1, before + change)
    is_shared = (before + change) - before >= 0.25 * rise
    assert confirmation.decide(step + 1) == ("confirmed" if is_shared else "rejected")


def test_scores_in_memory_are_bounded() -> None:
    confirmation = RiseConfirmation()
    for step in range(100_000):
        confirmation.add_score(step, 1.0)
    assert len(confirmation._scores) <= MAX_SCORES
    assert confirmation._scores[-1] == (99_999, 1.0)


def test_rise_that_only_the_probe_batch_shows_is_unstable_in_its_series() -> None:
    rng = random.Random(1)
    curve_judge = CurveJudge(planned_points=POINTS)
    for step in range(POINTS):
        level = 1.0 + (0.25 if step > 700 else 0.0)
        loss = level + rng.gauss(0, 1.2)
        curve_judge.add(step, loss, probe_loss=level + rng.gauss(0, 0.01) if step % 25 == 0 else None)
    verdict = curve_judge.finish()
    assert (verdict.verdict, verdict.reason, verdict.series) == ("unstable", "rise", "probe_loss")
    assert 700 < verdict.step <= 825
    assert verdict.text.startswith("loss on the probe batch rose from")


@pytest.mark.parametrize(("length", "step"), [(1, None), (2, 620), (3, 620)])
def test_rise_of_the_probe_loss_must_last_two_scores(length: int, step: int | None) -> None:
    curve_judge = CurveJudge(planned_points=POINTS)
    for at, loss in enumerate(decay()):
        bump = 3.0 * (600 <= at < 600 + 20 * length)
        curve_judge.add(at, loss, probe_loss=2.0 + bump + 0.001 * (at % 7) if at % 20 == 0 else None)
    verdict = curve_judge.finish()
    assert (verdict.verdict, verdict.step) == ("promote" if step is None else "unstable", step)


def judge_with_probe_rise_from(start: int) -> CurveVerdict:
    """Judge a run with an expected jump at step 5010 whose probe loss rises at step `start`."""
    curve_judge = CurveJudge(planned_points=10_000, expected_jumps=(5010,))
    for step, loss in enumerate(decay(10_000)):
        curve_judge.add(step, loss, probe_loss=2.0 + 0.001 * (step % 7) + 0.5 * (step >= start))
    return curve_judge.finish()


def test_probe_loss_that_rises_at_an_expected_jump_promotes() -> None:
    assert judge_with_probe_rise_from(5010).verdict == "promote"


def test_probe_loss_that_rises_just_before_an_expected_jump_is_unstable() -> None:
    verdict = judge_with_probe_rise_from(4935)
    assert (verdict.verdict, verdict.series) == ("unstable", "probe_loss")
    assert verdict.step is not None
    assert verdict.step < 5010


def test_single_score_before_an_expected_jump_is_no_level_after_it() -> None:
    """A phase may be shorter than the interval between two scores."""
    curve_judge = CurveJudge(planned_points=400, expected_jumps=[5])
    for step in range(400):
        probe = (1.0 if step < 5 else 5.0) if step % 10 == 0 else None
        assert curve_judge.add(step, 3.0 - step / 400 + (step % 7) / 50, probe_loss=probe) is None
    assert curve_judge.finish().verdict == "promote"


def judge_noisy_run(*, with_probe: bool) -> CurveVerdict:
    rng = random.Random(2)
    curve_judge = CurveJudge(planned_points=POINTS)
    for step in range(POINTS):
        level = 1.0 + math.exp(-step / 50)
        probe = level + rng.gauss(0, 0.005)
        loss = level + rng.gauss(0, 1.0)
        curve_judge.add(step, loss, probe_loss=probe if with_probe and step % 25 == 0 else None)
    return curve_judge.finish()


def test_quiet_probe_batch_promotes_a_run_whose_training_loss_is_too_noisy() -> None:
    without = judge_noisy_run(with_probe=False)
    assert (without.verdict, without.reason) == ("inconclusive", "too-noisy")
    assert judge_noisy_run(with_probe=True).verdict == "promote"
