"""A plot of fewer points shows all that a plot of all points would: extremes, order, and what is not finite."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import cos, inf, isfinite, isnan, nan, pi

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_smoke.page.series import BUCKETS, Series, broken_runs, corners, encoded, extremes, rounded, smoothed

# Few different numbers, so that level lines, and sequences of NaN, are as frequent as noise.
VALUES = st.lists(st.sampled_from([nan, inf, -inf, 0.0, 1.0, -1.0]) | st.floats(width=32), max_size=80)
BUCKET_COUNTS = st.integers(1, 30)


def drawn_at(kept: Sequence[int], values: Sequence[float], at: int) -> float:
    """Return what a plot of the kept points shows at a point that may have been left out."""
    place = bisect_right(kept, at) - 1
    before = kept[place]
    if before == at:
        return values[at]
    after = kept[place + 1]
    share = (at - before) / (after - before)
    return values[before] + (values[after] - values[before]) * share  # exact on a level line


@given(VALUES, BUCKET_COUNTS)
def test_the_extremes_of_every_part_are_drawn(values: list[float], buckets: int) -> None:
    kept = extremes(values, buckets)
    edges = [len(values) * at // buckets for at in range(buckets + 1)]
    for start, end in pairwise(edges):
        finite = [value for value in values[start:end] if isfinite(value)]
        shown = [drawn_at(kept, values, at) for at in range(start, end) if isfinite(values[at])]
        if finite:
            assert min(finite) in shown
            assert max(finite) in shown


@given(VALUES, BUCKET_COUNTS)
def test_kept_points_rise_and_include_both_ends(values: list[float], buckets: int) -> None:
    kept = extremes(values, buckets)
    assert all(before < after for before, after in pairwise(kept))
    if values:
        assert {kept[0], kept[-1]} == {0, len(values) - 1}


@given(VALUES, BUCKET_COUNTS)
@example([inf, inf, -1.0, inf, 0.0, -2.0], 1)
def test_every_value_that_is_not_finite_is_marked_and_breaks_the_line(values: list[float], buckets: int) -> None:
    steps = [7 * at for at in range(len(values))]
    series = encoded(Series(steps, values), buckets)
    marked = {step: kind for first, last, kind in series.get("bad", []) for step in range(first, last + 1, 7)}
    expected = {
        step: "NaN" if isnan(value) else "inf" if value > 0 else "-inf"
        for step, value in zip(steps, values, strict=True)
        if not isfinite(value)
    }
    assert marked == expected
    x = [sum(series["x"][: at + 1]) for at in range(len(series["x"]))]
    broken = {step for step, y in zip(x, series["y"], strict=True) if y is None}
    for first, last in broken_runs(values):
        assert {steps[first], steps[last]} <= broken


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0]) | st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_every_point_of_a_schedule_is_near_the_lines_between_its_corners(values: list[float]) -> None:
    kept = corners(Series(range(len(values)), values))
    assert {kept[0], kept[-1]} == {0, len(values) - 1}
    near = 1.001e-3 * (max(values) - min(values)) + 1e-9
    assert all(abs(drawn_at(kept, values, at) - value) <= near for at, value in enumerate(values))


def test_a_schedule_of_lines_is_its_corners_and_a_cosine_a_few_dozen_points() -> None:
    warmup_and_drop = [at / 100 for at in range(100)] + [1.0] * 700 + [0.0] + [0.5] * 199
    assert corners(Series(range(1000), warmup_and_drop)) == [0, 100, 799, 800, 801, 999]
    cosine = [0.5 + 0.5 * cos(at / 10_000 * pi) for at in range(10_000)]
    assert len(corners(Series(range(10_000), cosine))) < 50


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=50))
def test_at_most_two_points_of_each_part_are_kept(values: list[float]) -> None:
    assert len(extremes(values, 5)) <= 2 * 5 + 2


def test_a_spike_of_one_step_in_a_million_is_drawn() -> None:
    values = [1.0 + (at % 7) / 100 for at in range(1_000_000)]
    values[654_321] = 1e9
    kept = extremes(values)
    assert 654_321 in kept
    assert len(kept) <= 2 * BUCKETS + 2


def test_a_level_line_is_two_points() -> None:
    assert extremes([3.0] * 10_000) == [0, 9_999]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.23456789, 1.2346), (123456789.0, 123460000), (2.0, 2), (-0.0, 0), (1e-9, 1e-9), (1e300, 1e300), (nan, None)],
)
def test_values_are_rounded_to_five_significant_digits(value: float, shown: float | None) -> None:
    assert rounded(value) == shown


@given(st.lists(st.floats(min_value=-1e300, max_value=1e300) | st.just(nan), min_size=100, max_size=150))
@settings(max_examples=30)
def test_means_lie_between_the_extremes_and_at_the_middle_of_their_points(values: list[float]) -> None:
    means, width = smoothed(Series(range(len(values)), values))
    assert width == max(1, round(len(values) * 0.02))
    slack = 1e-9 * max((abs(value) for value in values if isfinite(value)), default=0.0)
    for step, mean in zip(*means, strict=True):
        window = [value for value in values[step - width // 2 :][:width] if isfinite(value)]
        assert isnan(mean) if not window else min(window) - slack <= mean <= max(window) + slack
