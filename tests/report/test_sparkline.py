"""Sparklines."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.report.sparkline import BARS, BROKEN, sparkline

FLOATS = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(FLOATS, max_size=200), st.integers(1, 80))
def test_a_sparkline_has_a_bar_per_block_and_marks_non_finite_values(values: list[float], width: int) -> None:
    """At most `width` bars."""
    line = sparkline(values, width=width)
    assert len(line) == min(len(values), width)
    assert set(line) <= {*BARS, BROKEN}
    if len(values) <= width:
        assert [mark == BROKEN for mark in line] == [not math.isfinite(value) for value in values]


def test_eight_even_steps_are_the_eight_bars() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == BARS
