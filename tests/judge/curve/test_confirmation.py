"""What becomes of a rise of the training loss: confirmed, not shared by the probe batch, or over soon."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.judge.curve.confirmation import MAX_SCORES, Alarm, CandidateRise, RiseConfirmation
from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from pytest_smoke.judge.curve.trend import MIN_SIGMAS
from tests.judge.curve.curves import decay
from tests.judge.curve.curves import judge as judge_losses

POINTS, EVERY, START = 1000, 25, 610


def level_at(step: int) -> float:
    return 1.8 + 2.7 * (1 + step / 15) ** -0.6


def judge(
    rise: Callable[[int], float],
    probe_rise: Callable[[int], float],
    *,
    every: int = EVERY,
    points: int = POINTS,
    noise: float = 0.05,
    probe_noise: float = 0.005,
) -> CurveVerdict:
    """Judge a run whose training loss rises by `rise(step)` and whose probe loss by `probe_rise(step)`."""
    rng = random.Random(1)
    curve_judge = CurveJudge(planned_points=points)
    for step in range(points):
        probe = level_at(step) + probe_rise(step) + rng.gauss(0, probe_noise) if step % every == 0 else None
        if curve_judge.add(step, level_at(step) + rise(step) + rng.gauss(0, noise), probe_loss=probe):
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


@pytest.mark.parametrize(
    ("share", "probe_noise", "verdict"),
    [
        pytest.param(1.0, 0.005, "unstable", id="shared"),
        pytest.param(0.3, 0.005, "promote", id="shared in small part"),
        pytest.param(0.0, 0.005, "promote", id="not shared"),
        pytest.param(1.0, 0.3, "promote", id="lost in the noise of the probe batch"),
    ],
)
def test_rise_too_weak_for_an_alarm_is_unstable_only_if_the_probe_batch_shows_it_too(
    share: float, probe_noise: float, verdict: str
) -> None:
    def rise(step: int) -> float:
        return 0.2 if step >= 850 else 0.0

    seen = judge(rise, lambda step: share * rise(step), noise=0.3, probe_noise=probe_noise)
    assert seen.verdict == verdict
    if verdict == "unstable":
        assert seen.data["sigmas"] < MIN_SIGMAS
        assert seen.text.endswith("and the loss on the probe batch rose too, from 2.114 to 2.229")


def test_rise_without_a_probe_batch_is_unstable_at_once() -> None:
    verdict = judge(from_start(1.0), no_rise, every=POINTS)
    assert verdict.verdict == "unstable"
    assert verdict.step is not None
    assert verdict.step < START + EVERY


@pytest.mark.parametrize("multiple", [3.0, 20.0])
def test_epochs_of_sorted_data_do_not_fail_however_high_the_loss_rises(multiple: float) -> None:
    """Each epoch ends with its hardest data; the model only gets better."""
    verdict = judge(lambda step: multiple * level_at(step) if step % 200 >= 150 else 0.0, no_rise)
    assert (verdict.verdict, verdict.reason) == ("promote", "")


def test_damage_after_harder_data_is_found() -> None:
    def rise(step: int) -> float:
        return (2.0 if step % 200 >= 150 else 0.0) + (0.8 if step >= 700 else 0.0)

    verdict = judge(rise, lambda step: 0.8 if step >= 700 else 0.0)
    assert verdict.verdict == "unstable"
    assert verdict.step is not None
    assert 700 < verdict.step < 800


def test_score_after_a_burst_says_nothing_about_it() -> None:
    verdict = judge(lambda step: 1.0 if 505 <= step < 512 else 0.0, no_rise, every=100)
    assert (verdict.verdict, verdict.reason) == ("promote", "")
    assert "loss rose at step 50" in verdict.text
    assert "and recovered within" in verdict.text


def test_burst_that_the_probe_batch_shares_is_unstable() -> None:
    def burst(step: int) -> float:
        return 1.0 if 500 <= step < 515 else 0.0

    verdict = judge(burst, burst, every=5)
    assert verdict.verdict == "unstable"


@pytest.mark.parametrize(("points", "verdict"), [(3, "promote"), (7, "promote"), (20, "unstable")])
def test_burst_is_forgiven_if_it_is_over_within_1_percent_of_the_run(points: int, verdict: str) -> None:
    losses = decay()
    assert judge_losses(losses[:500] + [9.0] * points + losses[500 + points :]).verdict == verdict


def test_burst_at_the_end_of_a_run_is_unstable() -> None:
    assert judge_losses([*decay()[:990], *[9.0] * 10]).verdict == "unstable"


def test_run_that_is_asked_for_its_verdict_during_a_burst_can_still_recover() -> None:
    losses = decay()
    for step in range(500, 506):
        losses[step] = 9.0
    curve_judge = CurveJudge(planned_points=len(losses))
    asked = []
    for step, loss in enumerate(losses):
        curve_judge.add(step, loss)
        asked.append(curve_judge.finish().verdict)
    assert asked[505] == "unstable"
    assert asked[-1] == "promote"


def test_one_burst_after_the_other_is_unstable() -> None:
    losses = decay()
    for start in range(200, 1000, 50):
        losses[start : start + 7] = [9.0] * 7
    assert judge_losses(losses).verdict == "unstable"


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
    assert verdict.step >= 800


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
def test_rise_is_confirmed_exactly_if_the_probe_loss_rises_by_a_quarter_of_it_or_a_tenth_of_its_level(
    before: float, change: float, rise: float, gaps: list[int]
) -> None:
    confirmation, step = RiseConfirmation(1000), 0
    for gap in gaps:
        step += gap
        confirmation.add_score(step, before)
    step += 1  # one step after the last score, the next one is not overdue
    candidate = CandidateRise(
        alarm=Alarm(reason="rise", text="", series="loss"),
        step=step,
        last_good_step=step - 1,
        first_step=step,
        points=1,
        level=before,
        rise=rise,
    )
    confirmation.add_loss(before + rise)
    assert confirmation.accepts(candidate)
    assert confirmation.decide(step) == "pending"
    confirmation.add_score(step + 1, before + change)
    confirmation.add_loss(before + rise)
    is_shared = (before + change) - before >= min(0.25 * rise, 0.1 * before)
    assert confirmation.decide(step + 1) == ("confirmed" if is_shared else "rejected")


def test_scores_in_memory_are_bounded() -> None:
    confirmation = RiseConfirmation(1000)
    for step in range(100_000):
        confirmation.add_score(step, 1.0)
    assert len(confirmation._scores) <= MAX_SCORES
    assert confirmation._scores[-1] == (99_999, 1.0)
