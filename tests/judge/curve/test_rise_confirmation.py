"""The fixed probe batch as a witness against the minibatch loss."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from pytest_smoke.judge.curve.rise_confirmation import MOST_SCORES, PLAIN, Alarm, CandidateRise, RiseConfirmation

POINTS, EVERY, ONSET = 1000, 25, 610


def curve(step: int) -> float:
    return 1.8 + 2.7 * (1 + step / 15) ** -0.6


def judge(
    rise: Callable[[int], float], shared: Callable[[int], float], *, every: int = EVERY, points: int = POINTS
) -> CurveVerdict:
    """A run whose minibatch loss rises by `rise(step)` and whose probe batch by `shared(step)`."""
    draw = random.Random(1)
    judge = CurveJudge(planned_points=points)
    for step in range(points):
        probe = curve(step) + shared(step) + draw.gauss(0, 0.005) if step % every == 0 else None
        if judge.add(step, curve(step) + rise(step) + draw.gauss(0, 0.05), probe_loss=probe):
            break
    return judge.finish()


def from_onset(by: float, until: int = POINTS) -> Callable[[int], float]:
    return lambda step: by if ONSET <= step < until else 0.0


def nothing(step: int) -> float:
    return 0.0


@pytest.mark.parametrize("by", [0.3, 1.0, 2.5])
def test_a_rise_that_the_probe_batch_does_not_share_is_the_data(by: float) -> None:
    found = judge(from_onset(by), nothing)
    assert (found.verdict, found.reason) == ("promote", "")
    assert "no rise that the fixed probe batch shares" in found.text
    assert "the loss itself rose at step 6" in found.text


@pytest.mark.parametrize("by", [0.3, 1.0, 2.5])
def test_a_rise_that_it_shares_is_the_model(by: float) -> None:
    found = judge(from_onset(by), from_onset(by / 2))
    assert found.verdict == "unstable"
    assert found.step is not None
    assert ONSET < found.step <= ONSET + 2 * EVERY
    assert found.data["last_good_step"] <= ONSET


def test_without_a_probe_batch_nobody_is_asked() -> None:
    found = judge(from_onset(1.0), nothing, every=POINTS)
    assert found.verdict == "unstable"
    assert found.step is not None
    assert found.step < ONSET + EVERY


def test_a_loss_of_three_times_its_level_waits_for_nobody() -> None:
    level = curve(ONSET)
    found = judge(from_onset(1.1 * PLAIN * level), nothing)
    assert (found.verdict, found.series) == ("unstable", "loss")
    assert found.step is not None
    assert found.step < ONSET - ONSET % EVERY + EVERY


def test_a_rise_that_was_over_before_the_next_score_stays_an_alarm() -> None:
    onset, every = 505, 100
    found = judge(lambda step: 1.0 if onset <= step < onset + 10 else 0.0, nothing, every=every)
    assert (found.verdict, found.reason, found.step) == ("unstable", "spike", 600)
    assert found.data["offence"][0] == onset


def test_scores_that_stop_are_not_waited_for_for_ever() -> None:
    judge = CurveJudge(planned_points=POINTS)
    draw = random.Random(0)
    alarm = None
    for step in range(POINTS):
        probe = curve(step) if step % EVERY == 0 and step < 500 else None
        alarm = judge.add(step, curve(step) + (step >= 501) + draw.gauss(0, 0.05), probe_loss=probe)
        if alarm:
            break
    assert alarm is not None
    assert alarm.step == 475 + 2 * EVERY + 1


def test_a_run_that_ends_while_the_answer_is_awaited_is_unstable() -> None:
    found = judge(lambda step: 1.0 if step >= 991 else 0.0, nothing, every=330)
    assert (found.verdict, found.reason) == ("unstable", "spike")


def test_what_comes_after_a_denial_is_judged_again() -> None:
    def rise(step: int) -> float:
        return from_onset(0.6)(step) + (0.6 if step >= 800 else 0.0)

    found = judge(rise, lambda step: 0.6 if step >= 800 else 0.0)
    assert found.verdict == "unstable"
    assert found.step is not None
    assert found.step > 800


def test_a_nan_while_the_answer_is_awaited_is_its_own_reason() -> None:
    judge = CurveJudge(planned_points=POINTS)
    for step in range(ONSET + 10):
        rising = step >= ONSET
        judge.add(step, curve(step) + rising, probe_loss=curve(step) if step % EVERY == 0 else None)
    assert judge.add(ONSET + 10, math.nan).reason == "non-finite"  # type: ignore[union-attr]


@given(
    before=st.floats(0.1, 10),
    change=st.floats(-5, 5),
    rise=st.floats(0.01, 1),
    gaps=st.lists(st.integers(1, 5), min_size=4, max_size=30),
)
def test_the_witness_denies_exactly_what_it_does_not_share(
    before: float, change: float, rise: float, gaps: list[int]
) -> None:
    witness, step = RiseConfirmation(), 0
    for gap in gaps:
        step += gap
        witness.add(step, before)
    step += 1  # of a score that is long overdue nothing is awaited
    candidate = CandidateRise(
        alarm=Alarm(reason="rise", text="", series="loss"), step=step, good=step - 1, first=step, level=1.0, rise=rise
    )
    assert witness.needed(candidate)
    witness.check(candidate)
    assert witness.verdict(step) == "open"
    witness.add(step + 1, before + change)
    shared = (before + change) - before >= 0.25 * rise
    assert witness.verdict(step + 1) == ("guilty" if shared else "denied")


def test_its_memory_is_bounded() -> None:
    witness = RiseConfirmation()
    for step in range(100_000):
        witness.add(step, 1.0)
    assert len(witness._scores) <= MOST_SCORES
    assert witness._scores[-1] == (99_999, 1.0)
