"""Synthetic loss curves and the verdicts on them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict

POINTS = 1000


def decay(points: int = POINTS, sigma: float = 0.08, seed: int = 0) -> list[float]:
    """Return a power-law decay from 4.5 to about 2 with Gaussian noise."""
    rng = random.Random(seed)
    return [1.8 + 2.7 * (1 + step / 15) ** -0.6 + rng.gauss(0, sigma) for step in range(points)]


def with_rise(losses: list[float], start: int, by: float) -> list[float]:
    """Raise all losses from point `start` on."""
    return losses[:start] + [loss + by for loss in losses[start:]]


def judge(
    losses: Sequence[float],
    *,
    ended_early: bool = False,
    lr: Callable[[int], float] | None = None,
    **options: Any,
) -> CurveVerdict:
    """Judge one loss per step; stop at the first alarm, as a training loop would."""
    judge = CurveJudge(**{"planned_points": len(losses)} | options)
    for step, loss in enumerate(losses):
        verdict = judge.add(step, loss, lr=lr(step) if lr else None)
        if verdict is not None:
            assert verdict.step == step
            break
    return judge.finish(ended_early=ended_early)
