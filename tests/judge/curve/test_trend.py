"""Detection of lasting rises in series with a known truth."""

from __future__ import annotations

import math
import random

import pytest

from pytest_smoke.judge.curve.correlation import Correlation
from pytest_smoke.judge.curve.trend import (
    CHUNK_POINTS,
    LOSS_MINIMUM_RISE,
    SPANS,
    WEAK_SIGMAS,
    BlockMeans,
    Rise,
    Trend,
    median_of_sorted,
    robust_deviation,
)


def first_rise(values: list[float], planned: int | None = None) -> Rise | None:
    trend = Trend(planned or len(values))
    return next((rise for step, value in enumerate(values) if (rise := trend.add(step, value))), None)


def noisy(level: float, sigma: float, points: int, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [level + rng.gauss(0, sigma) for _ in range(points)]


def test_lasting_step_is_detected_within_40_points_with_its_spans() -> None:
    values = noisy(2.0, 0.1, 600) + noisy(2.3, 0.1, 400, seed=1)
    rise = first_rise(values)
    assert rise is not None
    assert 600 <= rise.high_span.last_step < 640
    assert rise.low_span.last_step < 600 <= rise.high_span.last_step
    assert rise.low_span.mean == pytest.approx(2.0, abs=0.1)
    assert rise.high_span.mean > 2.1
    assert rise.sigmas > 4.5


def test_flat_gaussian_noise_is_rarely_a_rise() -> None:
    """The chance is about 1 %; of 40 runs, two or more rise with a chance of 6 %."""
    assert sum(first_rise(noisy(2.0, 0.3, 1000, seed)) is not None for seed in range(40)) <= 1


@pytest.mark.parametrize("seed", range(10))
def test_descent_is_no_rise(seed: int) -> None:
    noise = noisy(0.0, 0.2, 1000, seed)
    assert first_rise([1.5 + 3 * (1 + step / 20) ** -0.5 + noise[step] for step in range(1000)]) is None


def test_significant_rise_below_two_percent_of_the_level_does_not_matter() -> None:
    flat = [2.0 + 1e-6 * (step % 3) for step in range(500)]
    assert first_rise(flat + [value + 0.03 for value in flat]) is None  # 1.5 % of the level
    assert first_rise(flat + [value + 0.05 for value in flat]) is not None


def test_single_outlier_is_clipped() -> None:
    values = noisy(2.0, 0.1, 1000)
    values[500] = 200.0
    assert first_rise(values) is None
    block = BlockMeans(SPANS)
    block.add_chunk(sorted([*values[:20], 200.0]))
    assert block.close_block() == pytest.approx(2.0, abs=0.1)


def test_logarithmic_scale_detects_more_rises_in_multiplicative_noise() -> None:
    """The level rises by 20 % in lognormal noise of 0.8; of 30 runs, the mean alone detects it in at least 3 fewer."""
    both = linear = 0
    for seed in range(30):
        rng = random.Random(seed)
        values = [(1 if step < 1000 else 1.2) * math.exp(rng.gauss(0, 0.8)) for step in range(2000)]
        both += first_rise(values) is not None
        trend = Trend(2000)
        trend._log = None
        linear += any(trend.add(step, value) for step, value in enumerate(values))
    assert linear <= both - 3, (linear, both)


def test_negative_losses_are_judged_on_the_linear_scale() -> None:
    assert first_rise(noisy(-2.0, 0.05, 500) + noisy(-1.5, 0.05, 500)) is not None
    assert first_rise([-(1 + step / 1000) for step in range(1000)]) is None


def test_rise_matters_from_a_hundredth_of_the_fall_or_from_three_quarters_of_its_decades() -> None:
    assert LOSS_MINIMUM_RISE.above(1e-6, 5.0) == pytest.approx(0.05)
    assert LOSS_MINIMUM_RISE.above(1e-8, 1e4) == pytest.approx(1e-8 * 1e12**0.75)
    assert LOSS_MINIMUM_RISE.above(1.0, 5.0) == pytest.approx(0.05)
    assert LOSS_MINIMUM_RISE.above(4.0, 1.0) == pytest.approx(0.08)


def test_new_segment_hides_no_rise_within_it_and_makes_none_across() -> None:
    segment = noisy(1.0, 0.05, 500)
    higher = noisy(3.0, 0.05, 500, seed=1)

    def rise_in(second: list[float]) -> Rise | None:
        trend = Trend(1000)
        for step, value in enumerate(segment):
            assert trend.add(step, value) is None
        assert trend.start_segment(499) is None
        return next((rise for at, value in enumerate(second) if (rise := trend.add(500 + at, value))), None)

    assert rise_in(higher) is None
    risen = rise_in(higher[:250] + [value + 0.5 for value in higher[250:]])
    assert risen is not None
    assert risen.low_span.first_step >= 500
    assert 750 <= risen.high_span.last_step < 800


def test_half_full_block_at_the_end_of_a_segment_still_shows_its_rise() -> None:
    trend = Trend(2400)
    assert trend.block_points == 20
    for step in range(200):
        assert trend.add(step, 2.0 + 0.01 * (step % 3)) is None
    for step in range(200, 212):
        assert trend.add(step, 9.0 + 0.01 * (step % 3)) is None
    rise = trend.start_segment(211)
    assert rise is not None
    assert (rise.high_span.first_step, rise.high_span.last_step) == (200, 211)


def test_large_rise_in_a_short_series_is_not_taken_for_its_own_noise() -> None:
    falling = [2.2 - 0.05 * step for step in range(20)] + [1.17, 1.21, 0.92, 0.73, 0.54, 0.31, 0.1, 0.02, 0.03, 0.08]
    climbing = [0.15, 0.31, 0.16, 0.14, 0.18, 0.53, 0.31, 1.05, 0.65, 0.73]
    high = [0.88, 0.61, 1.02, 0.46, 0.55, 0.75, 0.53, 0.89, 0.46, 1.24]
    rise = first_rise(falling + climbing + high)
    assert rise is not None
    assert rise.high_span.mean > 10 * rise.low_span.mean


def test_weak_rises_are_shown_on_request_only() -> None:
    values = noisy(2.0, 0.3, 700) + noisy(2.14, 0.3, 100, seed=1)

    def rises(shows_weak_rises: bool) -> list[Rise]:
        trend = Trend(len(values))
        trend.shows_weak_rises = shows_weak_rises
        return [rise for step, value in enumerate(values) if (rise := trend.add(step, value))]

    assert not rises(False)
    weak = rises(True)
    assert weak
    assert all(rise.is_weak and rise.sigmas > WEAK_SIGMAS for rise in weak)


def test_detection_limit_shrinks_with_the_points_down_to_the_minimum_rise() -> None:
    limits = []
    for points in (200, 800, 3200):
        trend = Trend(points)
        for step, value in enumerate(noisy(2.0, 0.4, points)):
            trend.add(step, value)
        limit = trend.detection_limit()
        assert limit is not None
        limits.append(limit.rise)
    assert limits[0] > limits[1] > limits[2] > 0.3 * limits[0] / 2
    noiseless = Trend(200)
    for step in range(200):
        noiseless.add(step, 2.0)
    limit = noiseless.detection_limit()
    assert limit is not None
    assert limit.rise == pytest.approx(0.04)


def test_rise_at_the_detection_limit_is_detected_in_90_percent_of_runs() -> None:
    """The rise lasts for the second half of the curve; the limit is that of the same run without it."""
    seen = 0
    for seed in range(40):
        values = noisy(2.0, 0.3, 1000, seed)
        trend = Trend(1000)
        for step, value in enumerate(values):
            trend.add(step, value)
        limit = trend.detection_limit()
        assert limit is not None
        seen += first_rise(values[:500] + [value + limit.rise for value in values[500:]]) is not None
    assert seen >= 36


def test_short_curves_get_smaller_blocks_before_fewer_blocks() -> None:
    assert Trend(2400).block_points == 20
    assert Trend(300).block_points == 5
    assert Trend(90).block_points == 3
    assert Trend(35).block_points == 2


def test_memory_does_not_grow_with_the_curve() -> None:
    trend = Trend(200_000)
    for step, value in enumerate(noisy(1.0, 0.1, 20_000)):
        trend.add(step, value)
        assert len(trend._chunk) < CHUNK_POINTS
    assert trend.block_count == 20_000 // trend.block_points


def test_block_of_several_chunks_has_the_mean_and_error_of_its_points() -> None:
    values = noisy(5.0, 1.0, 192)
    whole, parts = BlockMeans(SPANS), BlockMeans(SPANS)
    for at in range(0, 192, 64):
        parts.add_chunk(values[at : at + 64])
    whole.add_chunk(values)
    # Not equal: each chunk is clipped by its own median.
    assert parts.close_block() == pytest.approx(whole.close_block(), rel=1e-3)
    assert parts.noise() == pytest.approx(whole.noise(), rel=1e-2)
    assert whole.noise() == pytest.approx(1 / math.sqrt(192), rel=0.15)


@pytest.mark.parametrize("start", [100, 150, 200])
@pytest.mark.parametrize("seed", range(6))
def test_step_after_a_steep_descent_does_not_hide_in_its_own_noise(start: int, seed: int) -> None:
    rng = random.Random(seed)
    losses = [
        (1 + 3 * (1 + step / 20) ** -0.7 + 0.5 * (step >= start)) * (1 + rng.gauss(0, 0.08)) for step in range(300)
    ]
    correlation = Correlation()
    correlation.ignore()  # as with a probe batch
    trend = Trend(300, correlation=correlation)
    assert any(trend.add(step, loss) for step, loss in enumerate(losses))


def test_robust_deviation_of_a_gaussian() -> None:
    values = noisy(0.0, 2.0, 4001)
    assert median_of_sorted(sorted(values)) == pytest.approx(0, abs=0.1)
    assert robust_deviation(values) == pytest.approx(2.0, rel=0.05)
