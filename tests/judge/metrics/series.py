"""Metric values for the tests of advisories."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from pytest_smoke.judge.metrics import advisories
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.model import MetricSpec

FULL_STEPS = 2000
VALUES = st.floats(-100, 100)

FIRST_ACC = [0.0] * 16
FIRST_ACC[3], FIRST_ACC[10], FIRST_ACC[15] = 1 / 24, 2 / 24, 1 / 24
"""An accuracy on 24 items from a real run: two hits at step 110, one at the end."""


def advise(
    values: Sequence[float], spec: MetricSpec | None = None, *, every: int = 10, name: str = "f1"
) -> dict[str, Finding]:
    """The advisories on one metric that was evaluated every `every` steps, by check."""
    points = [(every * (at + 1), value) for at, value in enumerate(values)]
    findings = advisories({name: points}, {name: spec} if spec else {}, full_steps=FULL_STEPS)
    return {finding.id.partition("[")[0]: finding for finding in findings}


def noisy(shape: Callable[[int], float], count: int, deviation: float, seed: int = 0) -> list[float]:
    """`shape` of 0, 1, ... with Gaussian noise."""
    draw = random.Random(seed)
    return [shape(at) + draw.gauss(0, deviation) for at in range(count)]
