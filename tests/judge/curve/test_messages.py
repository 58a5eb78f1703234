"""Every sentence about a curve, as the judge prints it for a curve that causes it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from tests.judge.curve.curves import decay, with_rise


def judged(
    losses: Sequence[float],
    *,
    probe: Sequence[float | None] = (),
    lr: Callable[[int], float] | None = None,
    grad_norms: Mapping[int, float] | None = None,
    terms: Mapping[int, dict[str, float]] | None = None,
    steps: Sequence[int] = (),
    ended_early: bool = False,
    **options: Any,
) -> CurveVerdict:
    judge = CurveJudge(**{"planned_points": max(1, len(losses))} | options)
    for point, loss in enumerate(losses):
        judge.add(
            steps[point] if steps else point,
            loss,
            probe_loss=probe[point] if probe else None,
            lr=lr(point) if lr else None,
            grad_norm=grad_norms.get(point, 1.0) if grad_norms else None,
            terms=(terms or {}).get(point),
        )
    return judge.finish(ended_early=ended_early)


def noise(level: float, sigma: float, points: int, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [level + rng.gauss(0, sigma) for _ in range(points)]


def probe_scores(losses: Sequence[float], every: int = 25) -> list[float | None]:
    return [loss if point % every == 0 else None for point, loss in enumerate(losses)]


DESCENT = decay()
QUIET = probe_scores(decay(sigma=0.005))
HARDER_DATA = with_rise(DESCENT, 610, 1.0)
WILD = [4.0 * math.exp(value) for value in noise(0.0, 2.0, 75, seed=1)]

VERDICTS = [
    pytest.param(
        lambda: judged(DESCENT),
        "promote",
        "",
        (
            "no rise in 1,000 points: loss fell from 4.174 to 1.976; a lasting rise by 2.0 % of the "
            "loss level would have been detected"
        ),
        id="descent",
    ),
    pytest.param(
        lambda: judged(noise(50.0, 1.0, 500) + noise(40.0, 1.0, 500)),
        "promote",
        "",
        (
            "no rise in 1,000 points: loss fell from 49.69 to 39.32; a lasting rise by 2.0 % of the "
            "loss level would have been detected"
        ),
        id="descent-of-a-large-loss",
    ),
    pytest.param(
        lambda: judged(HARDER_DATA, probe=QUIET),
        "promote",
        "",
        (
            "training loss rose at step 614, but the fixed probe batch did not (2.098 before, 2.081 after): "
            "the data got harder (is it shuffled?), the model did not get worse; a lasting rise by 2.0 "
            "% of the loss level would have been detected"
        ),
        id="data-got-harder",
    ),
    pytest.param(
        lambda: judged(with_rise(with_rise(DESCENT, 610, 0.3), 800, 0.5), probe=QUIET),
        "promote",
        "",
        (
            "training loss rose 2 times, first at step 615, but the fixed probe batch did not (2.1 before, "
            "2.081 after): the data got harder (is it shuffled?), the model did not get worse; a lasting "
            "rise by 2.0 % of the loss level would have been detected"
        ),
        id="data-got-harder-twice",
    ),
    pytest.param(
        lambda: judged(with_rise(DESCENT, 600, 0.12)),
        "unstable",
        "rise",
        (
            "loss rose from its lowest level, 2.071 (steps 568-591), to 2.224 (steps 600-623): +0.153 (+7.4 %), 6.8 "
            "standard deviations of the noise"
        ),
        id="rise",
    ),
    pytest.param(
        lambda: judged([1.0] * 60 + [1.5] * 40, planned_points=50),
        "unstable",
        "rise",
        (
            "loss rose from its lowest level, 1 (steps 0-1), to 1.5 (steps 60-61): +0.5 (+50 %), in a series "
            "without noise"
        ),
        id="rise-without-noise",
    ),
    pytest.param(
        lambda: judged([2.0, *noise(3.0, 0.1, 40), *DESCENT], probe=probe_scores([2.0] + [2.6] * 40 + DESCENT)),
        "unstable",
        "divergence",
        (
            "loss on the probe batch rose from 2 (step 0) to 2.6 at step 25: +0.6 (+30 %), and 25 of 25 losses since "
            "are above the first"
        ),
        id="worse-than-untrained",
    ),
    pytest.param(
        lambda: judged(noise(2.0, 1.2, 1000), probe=probe_scores(with_rise(noise(2.0, 0.01, 1000), 700, 0.3))),
        "unstable",
        "rise",
        (
            "loss on the probe batch rose from its lowest level, 1.992 (steps 100-150), to 2.198 (steps 675-725): "
            "+0.206 (+10 %), 19.5 standard deviations of the noise"
        ),
        id="rise-of-the-probe-loss",
    ),
    pytest.param(
        lambda: judged(DESCENT[:500] + [9.0] * 16 + DESCENT[516:], planned_points=250),
        "unstable",
        "spike",
        (
            "loss spiked from 2.143 (median of the 50 points before) to 9 (median of 4 points in a row, steps 500-503, "
            "each above all 50): +6.86 (+320 %)"
        ),
        id="spike",
    ),
    pytest.param(
        lambda: judged(noise(2.0, 0.1, 25) + WILD, planned_points=1000),
        "unstable",
        "divergence",
        (
            "loss diverged from 1.955 (median of steps 0-24) to 6.003 at step 43: 13 of the last 25 points "
            "exceed 2.541 (+30 %)"
        ),
        id="divergence",
    ),
    pytest.param(
        lambda: judged([1.5, 11.0, 14.0] + [13.0 + step % 2 for step in range(97)]),
        "unstable",
        "divergence",
        "loss diverged from 1.5 (step 0) to at least 11 in each of the 24 points up to step 24 (+633 %)",
        id="early-divergence",
    ),
    pytest.param(
        lambda: judged([*DESCENT[:412], math.nan]), "unstable", "non-finite", "loss is NaN at step 412", id="nan-loss"
    ),
    pytest.param(
        lambda: judged([*DESCENT[:412], 1e300]),
        "unstable",
        "non-finite",
        "loss is 1e+300 at step 412: values of this size count as infinite",
        id="huge-loss",
    ),
    pytest.param(
        lambda: judged([*DESCENT[:412], math.inf], terms={412: {"ce": 1.8, "kl": math.inf}}),
        "unstable",
        "non-finite",
        "kl is inf at step 412",
        id="infinite-term",
    ),
    pytest.param(
        lambda: judged(DESCENT[:401], probe=[*QUIET[:400], math.nan]),
        "unstable",
        "non-finite",
        "loss on the probe batch is NaN at step 400",
        id="nan-probe-loss",
    ),
    pytest.param(
        lambda: judged(DESCENT[:500] + [0.0] * 8),
        "unstable",
        "non-finite",
        "loss dropped from 2.156 to exactly 0 for 8 points (steps 500-507): some loggers write a NaN as 0",
        id="zeros",
    ),
    pytest.param(
        lambda: judged([*DESCENT[:500], 0.0], grad_norms={500: math.nan}),
        "unstable",
        "non-finite",
        "loss is exactly 0 at step 500 while the gradient norm is NaN: some loggers write a NaN as 0",
        id="zero-with-nan-gradient",
    ),
    pytest.param(
        lambda: judged(DESCENT[:117], grad_norms=dict.fromkeys(range(100, 117), math.inf)),
        "unstable",
        "non-finite",
        (
            "gradient norm is not finite for 17 points in a row (steps 100-116): an fp16 loss scaler "
            "skips at most 16 in a row"
        ),
        id="skipped-fp16-steps",
    ),
    pytest.param(
        lambda: judged(DESCENT, lr=lambda step: 5e-4 if step < 400 else 1e-4),
        "invalid",
        "masked",
        (
            "only 400 steps ran at 80 % or more of the peak learning rate (0.0005), the last at step 399; "
            "499 are needed, because a stable loss at a low learning rate proves nothing"
        ),
        id="masked",
    ),
    pytest.param(
        lambda: judged(DESCENT, lr=lambda step: 5e-4, peak_lr=1e-3),
        "invalid",
        "masked",
        (
            "no step ran at 80 % or more of the peak learning rate (0.001); 499 are needed, because a stable "
            "loss at a low learning rate proves nothing"
        ),
        id="never-at-the-peak",
    ),
    pytest.param(
        lambda: judged(DESCENT[:20]),
        "inconclusive",
        "too-short",
        "20 points, at least 32 needed to tell a rise from noise",
        id="too-short",
    ),
    pytest.param(
        lambda: judged(noise(1.0, 0.3, 300)),
        "inconclusive",
        "too-noisy",
        (
            "the noise of 300 points could hide a lasting rise by 26 % of the loss level; about 1,699 "
            "more points, or a batch 6.7 times as large, would decide"
        ),
        id="too-noisy",
    ),
    pytest.param(
        lambda: judged([1e-4 + (-1) ** step for step in range(720)]),
        "inconclusive",
        "too-noisy",
        "the noise of 720 points could hide a lasting rise by 0.67",
        id="hopelessly-noisy",
    ),
    pytest.param(
        lambda: judged(noise(2.0, 0.01, 500)),
        "promote",
        "no-progress",
        "loss did not improve on its initial level 1.996: any decrease is within its noise",
        id="flat",
    ),
    pytest.param(
        lambda: judged(noise(math.log(10), 0.01, 500), from_scratch=True),
        "inconclusive",
        "no-progress",
        (
            "loss did not improve on its initial level 2.299 (ln 10 = 2.303, chance level for 10 classes): "
            "any decrease is within its noise"
        ),
        id="flat-at-chance-level-from-scratch",
    ),
    pytest.param(
        lambda: judged(DESCENT[:412], planned_points=1000, ended_early=True),
        "inconclusive",
        "ended-early",
        (
            "ended at step 411, after 412 of 1,000 planned points: no rise so far, but an incomplete run "
            "cannot be promoted"
        ),
        id="ended-early",
    ),
    pytest.param(
        lambda: judged([], planned_points=1000, ended_early=True),
        "inconclusive",
        "ended-early",
        "ended before the first of 1,000 planned points: an incomplete run cannot be promoted",
        id="ended-before-the-first-point",
    ),
    pytest.param(
        lambda: judged([0.0] * 200, expected_jumps=[100]),
        "hold",
        "constant",
        "loss is exactly 0 at all 200 points: all labels are ignored, or no loss term contributes",
        id="constant-zero",
    ),
    pytest.param(
        lambda: judged([*DESCENT[:700], *[1.9876543] * 300]),
        "hold",
        "constant",
        "loss is exactly 1.988 at the last 300 points: nothing is trained",
        id="constant-loss",
    ),
    pytest.param(
        lambda: judged([2.3025851] * 300),
        "hold",
        "constant",
        "loss is exactly 2.303 at all 300 points: nothing is trained",
        id="constant-from-the-start",
    ),
    pytest.param(
        lambda: judged(DESCENT, grad_norms=dict.fromkeys(range(1000), 0.0)),
        "hold",
        "constant",
        "gradient norm is exactly 0 at all 1,000 points: nothing is trained",
        id="zero-gradient",
    ),
    pytest.param(
        lambda: judged([14.84, 0.0, 0.0]),
        "unstable",
        "non-finite",
        "loss dropped from 14.84 to exactly 0 at the last 2 points (steps 1-2): some loggers write a NaN as 0",
        id="short-log-that-ends-with-zeros",
    ),
    pytest.param(
        lambda: judged([1.3] * 12 + [34_023.0]),
        "unstable",
        "divergence",
        "loss diverged to 3.402e+04 at its last step 12, 2.62e+04 times the highest of the 12 points before",
        id="last-point-of-a-short-log",
    ),
    pytest.param(
        lambda: judged([1.3] * 12 + [900.0] * 4, planned_points=16),
        "unstable",
        "divergence",
        (
            "loss diverged to at least 900 in each of the 4 points up to step 15, 692 times the highest of the 12 "
            "points before (1.3)"
        ),
        id="far-above-everything-before",
    ),
    pytest.param(
        lambda: judged([10.0 ** (2 * math.cos(math.pi * step / 6)) for step in range(100)]),
        "unstable",
        "swings",
        "loss rose more than 30-fold 3 times, the last time from 0.01853 (step 31) to 1 (step 35)",
        id="swings",
    ),
    pytest.param(
        lambda: judged(DESCENT[:500] + [9.0] * 7 + DESCENT[507:]),
        "promote",
        "",
        (
            "loss rose at step 496, from 2.109 to 4.389, and recovered within 7 points: no lasting rise; a lasting "
            "rise by 2.0 % of the loss level would have been detected"
        ),
        id="recovered-burst",
    ),
    pytest.param(
        lambda: judged(noise(1.0, 0.12, 150) + noise(0.3, 0.12, 150)),
        "promote",
        "",
        (
            "no rise in 300 points: loss fell from 0.9573 to 0.2267; only a lasting rise by 22 % of the loss level or "
            "more would have been detected, a smaller one could hide in the noise"
        ),
        id="weak-promotion",
    ),
    pytest.param(
        lambda: judged(
            [
                7.3 if 2 < step < 6 else loss
                for step, loss in enumerate(noise(2.36, 0.01, 40) + noise(math.log(10), 0.01, 460))
            ],
            from_scratch=True,
            classes=10,
        ),
        "inconclusive",
        "no-progress",
        (
            "loss did not improve on its initial level 2.353 by more than 2.6 %: it ends at 2.292 (ln 10 = 2.303, "
            "chance level for 10 classes)"
        ),
        id="chance-level-after-an-overshoot",
    ),
    pytest.param(
        lambda: judged(DESCENT, probe=probe_scores(noise(2.5, 0.002, 1000)), from_scratch=True),
        "inconclusive",
        "no-progress",
        "loss on the probe batch did not improve: it began at 2.502 and ended at 2.499",
        id="probe-batch-without-progress",
    ),
    pytest.param(
        lambda: judged(DESCENT, lr=lambda step: 1e-6 * step),
        "inconclusive",
        "warming-up",
        (
            "the learning rate was still rising at the end (0.000999): the warm-up is not over, and 499 steps near the "
            "peak are needed"
        ),
        id="warming-up",
    ),
    pytest.param(
        lambda: judged(DESCENT, lr=lambda step: 0.0),
        "invalid",
        "learning-rate-zero",
        "the learning rate is 0 at all 1,000 points: nothing is trained",
        id="learning-rate-zero",
    ),
]


@pytest.mark.parametrize(("curve", "verdict", "reason", "text"), VERDICTS)
def test_each_curve_gets_its_verdict_and_sentence(
    curve: Callable[[], CurveVerdict], verdict: str, reason: str, text: str
) -> None:
    seen = curve()
    assert (seen.verdict, seen.reason, seen.text) == (verdict, reason, text)


NOTES = [
    pytest.param(lambda: judged(DESCENT), "no learning rate column: judged by the loss alone", id="no-learning-rate"),
    pytest.param(
        lambda: judged(DESCENT, lr=lambda step: 1e-3, grad_norms={0: math.inf}),
        (
            "1 point with a finite loss and a non-finite gradient norm, first at step 0: an fp16 loss scaler "
            "skips such steps (more than 16 in a row are unstable)"
        ),
        id="one-skipped-step",
    ),
    pytest.param(
        lambda: judged(DESCENT, lr=lambda step: 1e-3, grad_norms={5: math.inf, 6: math.nan}),
        (
            "2 points with a finite loss and a non-finite gradient norm, first at step 5: an fp16 loss "
            "scaler skips such steps (more than 16 in a row are unstable)"
        ),
        id="skipped-steps",
    ),
    pytest.param(
        lambda: judged(DESCENT, lr=lambda step: 1e-3, steps=range(0, 50_000, 50)),
        "one point for every 50 steps",
        id="stride",
    ),
    pytest.param(
        lambda: judged(DESCENT, lr=lambda step: 1e-3, steps=[*range(100), *range(150, 1000), *range(1010, 1060)]),
        "2 gaps in the steps, the widest from 99 to 150",
        id="gaps",
    ),
    pytest.param(
        lambda: judged(DESCENT, lr=lambda step: 1e-3, steps=[*range(500), *range(400, 900)]),
        "the step number does not increase at 1 point",
        id="decreasing-step",
    ),
    pytest.param(
        lambda: judged(DESCENT, lr=lambda step: 1e-3, expected_jumps=[500]),
        "1 expected jump: levels are not compared across it",
        id="one-expected-jump",
    ),
    pytest.param(
        lambda: judged(DESCENT, lr=lambda step: 1e-3, expected_jumps=[250, 500]),
        "2 expected jumps: levels are not compared across them",
        id="expected-jumps",
    ),
]


@pytest.mark.parametrize(("curve", "note"), NOTES)
def test_each_log_gets_its_note(curve: Callable[[], CurveVerdict], note: str) -> None:
    assert curve().notes == (note,)
