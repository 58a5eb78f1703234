"""The main metric: which one it is, its better direction, its change at the end."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.judge.metrics.main_metric import EVALUATIONS, MainMetric, final_slope, lower_is_better, main_metric

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
def test_the_first_metric_in_a_criterion_is_the_main_one(accept: list[str], name: str, better: str) -> None:
    """Only metrics of `evaluate` count; the comparison tells which direction is better."""
    assert main_metric(accept, METRICS, {}) == MainMetric(name=name, better=better)  # type: ignore[arg-type]  # a Better


def test_a_task_without_evaluation_has_no_main_metric() -> None:
    assert main_metric(["val_f1 > 1"], [], {}) is None


POINTS = st.lists(st.tuples(st.integers(1, 500), st.floats(-1e3, 1e3)), max_size=9).map(
    lambda steps: [(sum(step for step, _ in steps[: at + 1]), value) for at, (_, value) in enumerate(steps)]
)


@given(POINTS)
def test_final_slope_and_its_standard_error_match_numpy(points: list[tuple[int, float]]) -> None:
    slope = final_slope(points)
    newest = points[-EVALUATIONS:]
    if len(newest) < 2:
        assert slope is None
        return
    assert slope is not None
    assert slope.evaluations == len(newest)
    steps, values = np.array([s for s, _ in newest], dtype=float), np.array([v for _, v in newest])
    steps -= steps.mean()
    span = steps[-1] - steps[0]
    scale = 1e-9 * (1 + abs(values).max())
    assert slope.change == pytest.approx(np.polyfit(steps, values, 1)[0] * span, rel=1e-7, abs=scale)
    if len(newest) < 4:
        assert slope.standard_error is None
    else:
        _, covariance = np.polyfit(steps, values, 1, cov=True)
        assert slope.standard_error == pytest.approx(math.sqrt(covariance[0, 0]) * span, rel=1e-6, abs=scale)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_value_among_the_last_five_gives_no_slope(value: float) -> None:
    assert final_slope([(1, 0.5), (2, value), (3, 0.5)]) is None
    assert final_slope([(0, value), *((step, 0.5) for step in range(1, 6))]) is not None


def test_a_declared_direction_overrides_criterion_and_name() -> None:
    main = main_metric(["latent_nll > 1"], ["latent_nll"], {"latent_nll": "lower"})
    assert main == MainMetric(name="latent_nll", better="lower")
    assert main_metric([], ["regret"], {"regret": "higher"}) == MainMetric(name="regret", better="higher")
    assert main_metric([], ["regret"], {"regret": None}) == MainMetric(name="regret", better="lower")


@pytest.mark.parametrize(
    ("names", "lower"),
    [
        (("val_loss", "latentNLL", "errorRate", "wer", "ce", "token.perplexity"), True),
        (("val_f1", "first_acc", "accuracy", "bleu", "steer"), False),
    ],
)
def test_the_direction_is_guessed_from_whole_words_of_the_name(names: tuple[str, ...], lower: bool) -> None:
    """`steer` does not contain the word `ter`."""
    assert [lower_is_better(name) for name in names] == [lower] * len(names)
