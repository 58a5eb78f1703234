"""A drift is named before it breaks, and noise is not called one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from math import comb
from statistics import median

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.history.drift import (
    FALSE_ALARMS,
    FEWEST_POINTS,
    WINDOW,
    chance_of_fall,
    drifts_of,
    theil_sen,
)

FINITE = st.floats(-1e3, 1e3)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=7))
def test_the_chance_is_the_share_of_all_orders(values: list[int]) -> None:
    """Counted by brute force, with ties."""

    def rising(order: tuple[int, ...]) -> int:
        return sum(early < late for at, early in enumerate(order) for late in order[at + 1 :])

    orders = [rising(order) for order in permutations(values)]
    share = sum(one <= rising(tuple(values)) for one in orders) / len(orders)
    assert chance_of_fall(values) == pytest.approx(share)


KENDALL_10 = {15: 0.108, 17: 0.078, 19: 0.054, 21: 0.036, 23: 0.023, 25: 0.014, 27: 0.0083, 29: 0.0046, 31: 0.0023}
"""Probability of Kendall's S or more for ten values without ties (Kendall 1975; Gilbert 1987, table A18)."""


@pytest.mark.parametrize("s", KENDALL_10)
def test_the_chance_is_that_of_kendalls_table(s: int) -> None:
    rising = (45 - s) // 2
    values = list(range(10, 0, -1))  # no pair rises; each swap of neighbours below makes one rise
    for _ in range(rising):
        at = next(at for at in range(9) if values[at] > values[at + 1])
        values[at], values[at + 1] = values[at + 1], values[at]
    assert float(f"{chance_of_fall(values):.2g}") == pytest.approx(KENDALL_10[s], rel=0.05)


@given(st.floats(-10, 10), st.floats(-10, 10), st.integers(5, WINDOW), st.data())
def test_the_line_ignores_a_quarter_of_outliers(slope: float, intercept: float, many: int, data: st.DataObject) -> None:
    points = [(at, intercept + slope * at) for at in range(many)]
    for at in data.draw(st.lists(st.sampled_from(range(many)), max_size=many // 4, unique=True)):
        points[at] = (at, data.draw(FINITE))
    found = theil_sen(points)
    assert found == pytest.approx((slope, intercept), abs=1e-6)


def quantile(share: float, trials: int, probability: float) -> int:
    """Return the quantile of a binomial distribution."""
    total, at = 0.0, -1
    while total < share:
        at += 1
        total += comb(trials, at) * probability**at * (1 - probability) ** (trials - at)
    return at


NOISES: dict[str, Callable[[numpy.random.Generator, int], numpy.ndarray]] = {
    "normal": lambda rng, n: 0.03 + 0.01 * rng.standard_normal(n),
    "heavy tails": lambda rng, n: 0.03 + 0.01 * rng.standard_t(2, n),
    "skewed": lambda rng, n: 0.05 - 0.01 * rng.lognormal(0.0, 1.0, n),
    "two machines": lambda rng, n: 0.03 + 0.02 * rng.integers(0, 2, n) + 0.001 * rng.standard_normal(n),
    "few values": lambda rng, n: 0.01 * rng.integers(1, 6, n),
    "two values": lambda rng, n: 0.01 * rng.integers(1, 3, n),
    "mostly equal": lambda rng, n: 0.01 * (1 + (rng.random(n) < 0.2) * rng.integers(1, 9, n)),
}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("sessions", "series"), [(FEWEST_POINTS + 1, 1), (WINDOW, 1), (60, 1), (WINDOW, 30)])
def test_noise_is_called_a_drift_as_seldom_as_promised(noise: str, sessions: int, series: int) -> None:
    """Each margin is so near to its limit that the line reaches it whenever it falls at all.

    The bound is the 99.99 % quantile of the number of false alarms at the promised rate.
    """
    rng, histories = numpy.random.default_rng(sessions + series), 200 if series > 1 else 1000
    alarms = 0
    for _ in range(histories):
        alarms += bool(drifts_of({str(at): list(NOISES[noise](rng, sessions)) for at in range(series)}))
    assert alarms <= quantile(0.9999, histories, FALSE_ALARMS)


def test_a_steady_fall_is_named_long_before_the_limit() -> None:
    """From 40 % to 0 in 60 sessions, with noise of 2 %; one of 30 margins, the others only noise."""
    rng = numpy.random.default_rng(0)
    first_named, falsely = [], 0
    for _ in range(20):
        falling = 0.4 * (1 - numpy.arange(60) / 60) + 0.02 * rng.standard_normal(60)
        others = 0.4 + 0.02 * rng.standard_normal((29, 60))
        for now in range(FEWEST_POINTS, 60):
            found = drifts_of({"falling": falling[:now], **{str(at): other[:now] for at, other in enumerate(others)}})
            falsely += bool(set(found) - {"falling"})
            if "falling" in found:
                first_named.append(now)
                break
    assert len(first_named) == 20, "named in every history before it broke"
    assert max(first_named) <= 55, "at least five sessions before"
    assert median(first_named) <= 45
    assert falsely == 0


@given(st.floats(0.001, 1e3), st.floats(0.1, 0.9), st.integers(FEWEST_POINTS + 6, 40))
def test_the_sessions_left_are_those_of_the_line(start: float, share: float, sessions: int) -> None:
    """The margin falls by `share` of its start over the history."""
    series = [start * (1 - share * at / (sessions - 1)) for at in range(sessions)]
    drift = drifts_of({"a": series}).get("a")
    window = min(sessions, WINDOW)
    expected = (1 - share) / share * (sessions - 1)
    if expected > window - 1 + 1e-6:
        assert drift is None, "too far away to say"
    elif expected < window - 1 - 1e-6:
        assert drift is not None
        assert drift.sessions_left == pytest.approx(expected, rel=1e-6)
        assert (drift.first, drift.last) == pytest.approx((series[-window], series[-1]))
        assert drift.jump_share < 0.5


@pytest.mark.parametrize(
    ("series", "why"),
    [
        ([0.5 - 0.02 * at for at in range(5)], "too few points"),
        ([0.1 + 0.02 * at for at in range(20)], "it moves away from the limit"),
        ([0.5 - 0.05 * at for at in range(11)], "it ends at the limit: the verdict says so"),
        ([0.5] * 12 + [0.2] * 12, "one change of the code is two points, however often they are repeated"),
        ([0.5 - 0.04 * at for at in range(8)] + [0.22] * 60, "it stopped long ago"),
        ([5.0 - 0.002 * at for at in range(20)], "the limit is far away"),
        ([], "no session"),
        ([0.3], "one session"),
        ([0.3] * 50, "nothing changes"),
    ],
)
def test_what_is_no_drift(series: list[float], why: str) -> None:
    assert drifts_of({"a": series}) == {}, why


def test_a_level_that_was_the_same_for_long_counts_from_its_last_session() -> None:
    drift = drifts_of({"a": [0.5] * 90 + [0.46 - 0.04 * at for at in range(10)]})["a"]
    assert drift.sessions == 11
    assert drift.slope == pytest.approx(-0.04)


def test_a_fall_that_one_change_explains_says_so() -> None:
    rng = numpy.random.default_rng(1)
    noise = 0.002 * rng.standard_normal(16)
    series = [0.3 - 0.01 * at - (0.1 if at >= 9 else 0.0) + noise[at] for at in range(16)]
    drift = drifts_of({"a": series})["a"]
    assert drift.jump_at == 9
    assert drift.jump_share > 0.3
