"""The trough engine on series whose truth is known."""

from __future__ import annotations

import math
import random

import pytest

from pytest_smoke.judge.curve.blocks import CHUNK_POINTS, Blocks, middle, spread
from pytest_smoke.judge.curve.trend import LOSS_GATE, SPANS, Rise, Trend


def first_rise(values: list[float], planned: int | None = None) -> Rise | None:
    trend = Trend(planned or len(values))
    return next((rise for step, value in enumerate(values) if (rise := trend.add(step, value))), None)


def noisy(level: float, sigma: float, points: int, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [level + draw.gauss(0, sigma) for _ in range(points)]


def test_a_lasting_step_is_seen_soon_after_its_onset_and_named_from_trough_to_offence() -> None:
    values = noisy(2.0, 0.1, 600) + noisy(2.3, 0.1, 400, seed=1)
    rise = first_rise(values)
    assert rise is not None
    assert 600 <= rise.high_span.last < 640
    assert rise.low_span.last < 600 <= rise.high_span.last
    assert rise.low_span.value == pytest.approx(2.0, abs=0.1)
    assert rise.high_span.value > 2.1
    assert rise.sigmas > 4.5


@pytest.mark.parametrize("seed", range(20))
def test_flat_gaussian_noise_is_no_rise(seed: int) -> None:
    assert first_rise(noisy(2.0, 0.3, 1000, seed)) is None


@pytest.mark.parametrize("seed", range(10))
def test_a_descent_is_no_rise(seed: int) -> None:
    noise = noisy(0.0, 0.2, 1000, seed)
    assert first_rise([1.5 + 3 * (1 + step / 20) ** -0.5 + noise[step] for step in range(1000)]) is None


def test_a_certain_rise_below_the_gate_does_not_matter() -> None:
    flat = [2.0 + 1e-6 * (step % 3) for step in range(500)]
    assert first_rise(flat + [value + 0.03 for value in flat]) is None  # 1.5 % of the level: below the gate of 2 %
    assert first_rise(flat + [value + 0.05 for value in flat]) is not None


def test_one_outlier_in_a_block_is_clipped() -> None:
    values = noisy(2.0, 0.1, 1000)
    values[500] = 200.0
    assert first_rise(values) is None
    block = Blocks(SPANS)
    block.chunk(sorted([*values[:20], 200.0]))
    assert block.close() == pytest.approx(2.0, abs=0.1)


def test_a_rise_in_multiplicative_noise_is_seen_on_the_logarithmic_scale() -> None:
    """A level that grows by a fifth in noise of half an e-fold: the mean alone sees it in fewer of 30 runs."""
    both = linear = 0
    for seed in range(30):
        draw = random.Random(seed)
        values = [(1 if step < 1000 else 1.2) * math.exp(draw.gauss(0, 0.8)) for step in range(2000)]
        both += first_rise(values) is not None
        trend = Trend(2000)
        trend._log = None
        linear += any(trend.add(step, value) for step, value in enumerate(values))
    assert linear <= both - 3, (linear, both)


def test_negative_losses_are_judged_without_the_logarithm() -> None:
    assert first_rise(noisy(-2.0, 0.05, 500) + noisy(-1.5, 0.05, 500)) is not None
    assert first_rise([-(1 + step / 1000) for step in range(1000)]) is None


def test_a_loss_that_fell_by_decades_may_double_only_above_a_thousandth_of_the_fall() -> None:
    assert LOSS_GATE.above(1e-6, 5.0) == pytest.approx(0.005)
    assert LOSS_GATE.above(0.02, 5.0) == pytest.approx(0.02)
    assert LOSS_GATE.above(1.0, 5.0) == pytest.approx(0.05)
    assert LOSS_GATE.above(4.0, 1.0) == pytest.approx(0.08)


def test_an_edge_hides_no_rise_inside_a_segment_and_makes_none_across() -> None:
    segment = noisy(1.0, 0.05, 500)
    higher = noisy(3.0, 0.05, 500, seed=1)

    def judged(second: list[float]) -> Rise | None:
        trend = Trend(1000)
        for step, value in enumerate(segment):
            assert trend.add(step, value) is None
        assert trend.edge(499) is None
        return next((rise for at, value in enumerate(second) if (rise := trend.add(500 + at, value))), None)

    assert judged(higher) is None
    risen = judged(higher[:250] + [value + 0.5 for value in higher[250:]])
    assert risen is not None
    assert risen.low_span.first >= 500
    assert 750 <= risen.high_span.last < 800


def test_the_last_blocks_before_an_edge_still_show_their_rise() -> None:
    """The block that the edge cuts short, at half of its points or more, is judged."""
    trend = Trend(2400)
    assert trend.block_points == 20
    for step in range(200):
        assert trend.add(step, 2.0 + 0.01 * (step % 3)) is None
    for step in range(200, 212):
        assert trend.add(step, 9.0 + 0.01 * (step % 3)) is None
    rise = trend.edge(211)
    assert rise is not None
    assert (rise.high_span.first, rise.high_span.last) == (200, 211)


def test_the_bound_shrinks_with_the_points_and_is_never_below_the_gate() -> None:
    bounds = []
    for points in (200, 800, 3200):
        trend = Trend(points)
        for step, value in enumerate(noisy(2.0, 0.4, points)):
            trend.add(step, value)
        bound = trend.bound()
        assert bound is not None
        bounds.append(bound.rise)
    assert bounds[0] > bounds[1] > bounds[2] > 0.3 * bounds[0] / 2
    weaker = Trend(200)
    for step in range(200):
        weaker.add(step, 2.0)
    bound = weaker.bound()
    assert bound is not None
    assert bound.rise == pytest.approx(0.04)


def test_a_rise_as_large_as_the_bound_says_is_seen() -> None:
    """Held half a window, at the bound of an identical run without it: at least 90 % of 40 runs."""
    seen = 0
    for seed in range(40):
        values = noisy(2.0, 0.3, 1000, seed)
        trend = Trend(1000)
        for step, value in enumerate(values):
            trend.add(step, value)
        bound = trend.bound()
        assert bound is not None
        seen += first_rise(values[:500] + [value + bound.rise for value in values[500:]]) is not None
    assert seen >= 36


def test_short_windows_get_smaller_blocks_before_fewer() -> None:
    assert Trend(2400).block_points == 20
    assert Trend(300).block_points == 5
    assert Trend(90).block_points == 3
    assert Trend(35).block_points == 2


def test_memory_does_not_grow_with_the_window() -> None:
    trend = Trend(200_000)
    for step, value in enumerate(noisy(1.0, 0.1, 20_000)):
        trend.add(step, value)
        assert len(trend._chunk) < CHUNK_POINTS
    assert trend.blocks == 20_000 // trend.block_points


def test_a_block_of_several_chunks_has_the_mean_and_error_of_its_points() -> None:
    values = noisy(5.0, 1.0, 192)
    whole, parts = Blocks(SPANS), Blocks(SPANS)
    for at in range(0, 192, 64):
        parts.chunk(sorted(values[at : at + 64]))
    whole.chunk(sorted(values))
    assert parts.close() == pytest.approx(whole.close(), rel=1e-3)  # clipped per chunk, hence not equal
    assert parts.noise() == pytest.approx(whole.noise(), rel=1e-2)
    assert whole.noise() == pytest.approx(1 / math.sqrt(192), rel=0.15)


def test_robust_spread_of_a_gaussian() -> None:
    values = noisy(0.0, 2.0, 4001)
    assert middle(sorted(values)) == pytest.approx(0, abs=0.1)
    assert spread(values) == pytest.approx(2.0, rel=0.05)
