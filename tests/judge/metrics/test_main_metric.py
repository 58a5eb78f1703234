"""Which metric tells cells apart, and where it is heading."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.judge.metrics.final_slope import EVALUATIONS, drift
from pytest_smoke.judge.metrics.main_metric import MainMetric, main_metric

METRICS = ["val_loss", "val_f1"]


@pytest.mark.parametrize(
    ("accept", "name", "better"),
    [
        ([], "val_loss", "lower"),
        (["val_f1 > 0.1 by step 1000"], "val_f1", "higher"),
        (["max(grad_norm) < 100", "val_f1 >= 0.5"], "val_f1", "higher"),
        (["0.5 < max(val_f1)"], "val_f1", "higher"),
        (["val_f1 < 0.9"], "val_f1", "lower"),
        (["val_loss == 0"], "val_loss", "lower"),
        (["val_f1 == 1"], "val_f1", "higher"),
        (["grad_norm < 1.1 * val_f1"], "val_f1", "higher"),
        (["1 - val_f1 < 0.2"], "val_f1", "higher"),
        (["-val_f1 < -0.2"], "val_f1", "higher"),
        (["2 / (1 - val_f1) > 3"], "val_f1", "higher"),
        (["`val_f1` - val_loss > 0"], "val_f1", "higher"),
        (["loss < 3"], "val_loss", "lower"),
    ],
)
def test_the_first_metric_of_a_criterion_or_else_the_first(accept: list[str], name: str, better: str) -> None:
    """What only the loop records is no metric of `evaluate`; the sense of the comparison says which way is better."""
    assert main_metric(accept, METRICS, {}) == MainMetric(name=name, better=better)  # type: ignore[arg-type]  # a Better


def test_without_metrics_there_is_none() -> None:
    """A task need not evaluate."""
    assert main_metric(["val_f1 > 1"], [], {}) is None


POINTS = st.lists(st.tuples(st.integers(1, 500), st.floats(-1e3, 1e3)), max_size=9).map(
    lambda steps: [(sum(step for step, _ in steps[: at + 1]), value) for at, (_, value) in enumerate(steps)]
)


@given(POINTS)
def test_the_drift_is_the_slope_that_numpy_fits_with_its_standard_error(points: list[tuple[int, float]]) -> None:
    """Over the newest five, times their span."""
    found = drift(points)
    newest = points[-EVALUATIONS:]
    if len(newest) < 2:
        assert found is None
        return
    assert found is not None
    assert found.evaluations == len(newest)
    steps, values = np.array([s for s, _ in newest], dtype=float), np.array([v for _, v in newest])
    steps -= steps.mean()
    span = steps[-1] - steps[0]
    scale = 1e-9 * (1 + abs(values).max())
    assert found.change == pytest.approx(np.polyfit(steps, values, 1)[0] * span, rel=1e-7, abs=scale)
    if len(newest) < 4:
        assert found.noise is None
    else:
        _, covariance = np.polyfit(steps, values, 1, cov=True)
        assert found.noise == pytest.approx(math.sqrt(covariance[0, 0]) * span, rel=1e-6, abs=scale)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_not_finite_has_no_drift(value: float) -> None:
    """Until it is finite again for as long as a drift is fitted to."""
    assert drift([(1, 0.5), (2, value), (3, 0.5)]) is None
    assert drift([(0, value), *((step, 0.5) for step in range(1, 6))]) is not None


def test_a_declaration_outdoes_the_criterion_and_the_name() -> None:
    found = main_metric(["latent_nll > 1"], ["latent_nll"], {"latent_nll": "lower"})
    assert found == MainMetric(name="latent_nll", better="lower")
    assert main_metric([], ["regret"], {"regret": "higher"}) == MainMetric(name="regret", better="higher")
    assert main_metric([], ["regret"], {"regret": None}) == MainMetric(name="regret", better="lower")
