"""Verdicts on curves without any instability."""

from __future__ import annotations

import math
import random

from pytest_smoke.judge.curve.curve_judge import CurveJudge
from tests.judge.curve.curves import POINTS, decay, judge, with_rise


def test_too_noisy_names_a_number_of_points_that_decides() -> None:
    """The estimate comes from 300 noisy points: 4 times as many decide 7 of 10 runs, a third as many at most 3."""
    decided = decided_by_third = 0
    for seed in range(10):
        rng = random.Random(seed)
        losses = [1.0 + math.exp(-step / 30) + rng.gauss(0, 0.3) for step in range(20_000)]
        verdict = judge(losses[:300])
        assert (verdict.verdict, verdict.reason) == ("inconclusive", "too-noisy")
        needed = verdict.data["points_needed"]
        assert f"about {needed - 300:,} more points" in verdict.text
        decided += judge(losses[: 4 * needed]).verdict == "promote"
        decided_by_third += judge(losses[: needed // 3]).verdict == "promote"
    assert decided >= 7
    assert decided_by_third <= 3


def test_too_short_names_the_points_needed() -> None:
    verdict = judge(decay()[:20])
    assert (verdict.verdict, verdict.reason) == ("inconclusive", "too-short")
    assert verdict.data["points_needed"] == 32
    assert "20 points, at least 32 needed" in verdict.text
    assert judge(decay(35, sigma=0.01)).verdict == "promote"


def test_no_points_are_too_short() -> None:
    assert CurveJudge(planned_points=100).finish().reason == "too-short"


def test_run_that_ended_early_does_not_promote() -> None:
    verdict = judge(decay(), ended_early=True, planned_points=2000)
    assert (verdict.verdict, verdict.reason) == ("inconclusive", "ended-early")
    assert "1,000 of 2,000" in verdict.text


def test_run_that_ended_early_after_a_rise_is_unstable() -> None:
    assert judge(with_rise(decay(), 500, 1.0), ended_early=True).verdict == "unstable"


def test_flat_loss_promotes_with_a_warning_and_names_its_chance_level() -> None:
    rng = random.Random(5)
    losses = [math.log(10) + rng.gauss(0, 0.01) for _ in range(POINTS)]
    verdict = judge(losses)
    assert (verdict.verdict, verdict.reason) == ("promote", "no-progress")
    assert "ln 10" in verdict.text
    assert "chance level for 10 classes" in verdict.text
    assert judge(losses, from_scratch=True).verdict == "inconclusive"


def test_progress_from_scratch_promotes() -> None:
    assert judge(decay(), from_scratch=True).reason == ""
