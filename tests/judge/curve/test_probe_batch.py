"""The loss on the fixed probe batch, as a second series."""

from __future__ import annotations

import math
import random

import pytest

from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from tests.judge.curve.curves import decay

POINTS = 1000


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
