"""Steps near the peak learning rate, and curves that have too few of them."""

from __future__ import annotations

import math

import pytest

from pytest_smoke.judge.curve.curve_judge import CurveJudge
from tests.judge.curve.curves import POINTS, decay, judge, with_rise


def cosine(step: int, warmup: int, steps: int) -> float:
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def warmup_then_constant(step: int) -> float:
    return 3e-4 * min(1.0, step / 1000)


def test_cosine_smoke_run_is_masked_and_names_its_last_step_near_the_peak() -> None:
    verdict = judge(decay(3000), lr=lambda step: 5e-4 * cosine(step, 1000, 3000))
    assert (verdict.verdict, verdict.reason) == ("invalid", "masked")
    last = max(step for step in range(3000) if cosine(step, 1000, 3000) >= 0.8)
    assert verdict.data["evidence_end"] == last
    assert f"step {last}" in verdict.text
    assert 780 < verdict.data["evidence_steps"] == pytest.approx(last - 800, abs=3)


def test_half_of_the_run_near_the_peak_is_enough_evidence() -> None:
    verdict = judge(decay(2500), lr=warmup_then_constant)
    assert verdict.verdict == "promote"
    assert verdict.data["evidence_steps"] == 1700
    assert verdict.notes == ()


def test_declared_evidence_requirement_replaces_the_default() -> None:
    assert judge(decay(2500), lr=warmup_then_constant, evidence_needed=1701).reason == "masked"


def test_declared_peak_replaces_the_largest_learning_rate() -> None:
    losses = decay(2500)
    assert judge(losses, lr=warmup_then_constant, peak_lr=3e-4).verdict == "promote"
    verdict = judge(losses, lr=warmup_then_constant, peak_lr=6e-4)
    assert (verdict.reason, verdict.data["evidence_end"]) == ("masked", None)


def test_rise_at_a_low_learning_rate_is_unstable_rather_than_masked() -> None:
    losses = with_rise(decay(3000), 2250, 1.0)
    assert judge(losses, lr=lambda step: cosine(step, 1000, 3000)).verdict == "unstable"


def test_evidence_counts_steps_if_every_50th_is_logged() -> None:
    curve_judge = CurveJudge(planned_points=200, evidence_needed=7000)
    for point, loss in enumerate(decay(200, sigma=0.01)):
        curve_judge.add(point * 50, loss, lr=1e-3)
    verdict = curve_judge.finish()
    assert verdict.verdict == "promote"
    assert verdict.data["evidence_steps"] == 199 * 50 + 1
    assert "one point for every 50 steps" in verdict.notes


def test_learning_rate_holds_until_the_next_one_is_logged() -> None:
    curve_judge = CurveJudge(planned_points=POINTS)
    for step, loss in enumerate(decay()):
        curve_judge.add(step, loss, lr=1e-3 if step % 100 == 0 else None)
    assert curve_judge.finish().data["evidence_steps"] == 1000
