"""Verdicts on whole curves of well-known shapes."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import subprocess
import sys

import pytest

from pytest_smoke.judge.curve.curve_judge import CurveJudge
from tests.judge.curve.curves import POINTS, decay, judge, with_rise


def test_clean_descent_promotes_with_the_rise_it_would_have_detected() -> None:
    verdict = judge(decay())
    assert (verdict.verdict, verdict.reason, verdict.step, verdict.points) == ("promote", "", None, POINTS)
    assert "loss fell from" in verdict.text
    assert "would have been detected" in verdict.text
    assert 0 < verdict.data["smallest_rise"] < 0.1
    assert verdict.notes == ("no learning rate column: judged by the loss alone",)


@pytest.mark.parametrize("start", [30, 60, 150, 400, 700, 940, 975])
def test_lasting_rise_is_unstable_within_25_points_anywhere_in_the_curve(start: int) -> None:
    verdict = judge(with_rise(decay(), start, 1.0))
    assert verdict.verdict == "unstable"
    assert verdict.step is not None
    assert start <= verdict.step < start + 25
    assert verdict.data["last_good_step"] < start + 1


def test_rise_names_its_low_span_high_span_and_significance() -> None:
    verdict = judge(with_rise(decay(), 600, 0.12))
    assert verdict.reason == "rise"
    low_span, high_span = verdict.data["low_span"], verdict.data["high_span"]
    assert low_span[1] < high_span[0] <= high_span[1] <= verdict.step
    assert high_span[1] >= 600
    for part in (
        f"loss rose from its lowest level, {low_span[2]:.4g} (steps {low_span[0]}-{low_span[1]}),",
        f"to {high_span[2]:.4g} (steps {high_span[0]}-{high_span[1]}): +0.",
        "standard deviations of the noise",
    ):
        assert part in verdict.text
    assert verdict.data["sigmas"] > 4.5


def test_slow_rise_is_unstable() -> None:
    losses = [loss + max(0, step - 400) * 8e-4 for step, loss in enumerate(decay())]
    verdict = judge(losses)
    assert (verdict.verdict, verdict.reason) == ("unstable", "rise")
    assert 450 < verdict.step < 800


def test_exponential_blow_up_is_unstable_within_a_few_points() -> None:
    losses = [loss + 1e-3 * math.exp(min(max(step - 500, -50) / 4, 60)) for step, loss in enumerate(decay())]
    verdict = judge(losses)
    assert verdict.verdict == "unstable"
    assert 510 < verdict.step < 545


def test_double_descent_is_unstable_and_plateau_promotes() -> None:
    plateau = [max(2.0, 4.0 - step / 100) if step < 700 else 2.0 - (step - 700) / 1000 for step in range(POINTS)]
    assert judge(plateau).verdict == "promote"
    double = [
        3 - step / 300 if step < 300 else 2 + 0.4 * math.sin(math.pi * min(1.0, (step - 300) / 300))
        for step in range(1000)
    ]
    assert judge(double).verdict == "unstable"


def test_loss_that_falls_to_1e_8_promotes() -> None:
    rng = random.Random(0)
    losses = [5.0 * math.exp(-step / 50 + rng.gauss(0, 0.2)) for step in range(POINTS)]
    assert losses[-1] < 1e-7
    assert judge(losses).verdict == "promote"


def test_expected_jump_is_no_rise_and_hides_none() -> None:
    """An epoch sawtooth: each epoch starts 0.6 above the end of the previous one."""
    losses = [
        loss + 0.6 * (1 - (step % 250) / 250) + 0.15 * (step // 250) for step, loss in enumerate(decay(sigma=0.03))
    ]
    assert judge(losses).verdict == "unstable"
    verdict = judge(losses, expected_jumps=(250, 500, 750))
    assert verdict.verdict == "promote"
    assert "3 expected jumps: levels are not compared across them" in verdict.notes
    verdict = judge(with_rise(losses, 600, 1.0), expected_jumps=(250, 500, 750))
    assert verdict.verdict == "unstable"
    assert 600 <= verdict.step < 625
    rise_before_jump = losses[:250] + with_rise(losses[250:499], 238, 1.0) + losses[499:]
    assert judge(rise_before_jump, expected_jumps=(250, 499)).verdict == "unstable"


def test_unstable_verdict_is_final_and_plain_data() -> None:
    curve_judge = CurveJudge(planned_points=100)
    curve_judge.add(0, 1.0)
    first = curve_judge.add(1, math.nan)
    assert curve_judge.add(2, 1.0) is first
    assert curve_judge.finish() is first
    assert curve_judge.finish(ended_early=True) is first
    assert first is not None
    json.dumps(dataclasses.asdict(first), allow_nan=False)


@pytest.mark.parametrize("losses", [decay(), with_rise([2.0] * POINTS, 500, 1.0), [0.0] * 100])
def test_every_verdict_is_strict_json(losses: list[float]) -> None:
    json.dumps(dataclasses.asdict(judge(losses)), allow_nan=False)


def test_planned_points_of_0_are_refused() -> None:
    with pytest.raises(ValueError, match="planned_points is 0, must be at least 1"):
        CurveJudge(planned_points=0)


def test_curve_judge_imports_the_standard_library_only() -> None:
    heavy = ("torch", "numpy", "pytest", "yaml", "pydantic")
    module = "pytest_smoke.judge.curve.curve_judge"
    code = f"import sys; import {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
