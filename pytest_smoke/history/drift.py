"""Whether a margin drifts towards its limit: a rank test for a trend, and a robust line to where it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, groupby, pairwise
from statistics import median
from typing import TypeVar

K = TypeVar("K")

WINDOW = 20
"""Points that are looked at, the newest ones. Twenty sessions are a month of working days; a longer window would also
weigh what a team has long since repaired, and the work grows with its square."""
LINE_SESSIONS = 200
"""Sessions that the line is drawn through, at most, if many of them have equal values: its work grows with the
square."""
FEWEST_POINTS = 6
"""Below, no order of the points is rare: five points fall one after another by chance in 1 of 120 cases."""
FALSE_ALARMS = 0.01
"""Probability that a history in which nothing but chance changes the margins has any drift. It is divided by the number
of margins that are tested (Bonferroni), because a history of many smoke runs is looked at as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A margin that falls towards its limit."""

    first: float
    """Level of the margin at the first point of the window, on the line."""
    last: float
    """Level at the newest session, on the line."""
    slope: float
    """Change of the margin per session; negative."""
    sessions: int
    """Sessions from the first point of the window to the newest one."""
    sessions_left: float
    """Sessions until the line is at the limit."""
    chance: float
    """Probability of a fall that is as steady, by chance alone."""
    jump_at: int
    """Place in the series of the largest single fall."""
    jump_share: float
    """That fall as a share of the fall of the line; 1 or more if one change explains all of it."""


def drifts_of(margins: Mapping[K, Sequence[float]]) -> dict[K, Drift]:
    """Return the series that drift towards 0, of all that are given. Each has its margins in the order of time.

    A series drifts if both are true:

    - It falls more steadily than chance would let it: one-sided Mann-Kendall test (Mann 1945; Kendall 1975) with the
      exact distribution of all orders of the same values, at `FALSE_ALARMS` divided by the number of series that have
      enough points.
    - Its Theil-Sen line (median of the slopes of all pairs; Sen 1968) reaches the limit within as many sessions as the
      window has.

    Consecutive equal values are one point: a commit that did not change the training repeats the figures of a
    deterministic run, and that is no second observation. A series that ends at or beyond its limit does not drift: its
    verdict says so.
    """
    tested = {name: points for name, series in margins.items() if len(points := _window(series)) >= FEWEST_POINTS}
    found = {name: _drift(points, margins[name], limit=FALSE_ALARMS / len(tested)) for name, points in tested.items()}
    return {name: drift for name, drift in found.items() if drift is not None}


def can_be_tested(series: Sequence[float]) -> bool:
    """Tell whether a series has enough points."""
    return len(_window(series)) >= FEWEST_POINTS


def theil_sen(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return slope and intercept of the line through (x, y) points: medians over all pairs, and over all points.

    Raises StatisticsError unless two points differ in x.
    """
    slope = median((y - x_y) / (x - x_x) for (x_x, x_y), (x, y) in combinations(points, 2) if x != x_x)
    return slope, median(y - slope * x for x, y in points)


def chance_of_fall(values: Sequence[float]) -> float:
    """Return the share of all orders of `values` that fall at least as steadily (Kendall's S at most theirs).

    Exact, also with ties: the pairs that rise, over all orders of a multiset, are counted by a Gaussian multinomial
    coefficient. Takes about n^3 additions of integers.
    """
    rising = sum(early < late for early, late in combinations(values, 2))
    orders = _orders_by_rising_pairs(tuple(sorted(Counter(values).values())))
    return sum(orders[: rising + 1]) / sum(orders)


def _window(series: Sequence[float]) -> list[tuple[int, float]]:
    """Return place and value of the newest points: of a run of equal values, the first session counts.

    Of the run that the window begins with, it is the last one: how long the level had been the same before is not part
    of a drift.
    """
    firsts = [next(run) for _, run in groupby(enumerate(series), key=lambda point: point[1])][-WINDOW:]
    return [(firsts[1][0] - 1, firsts[0][1]), *firsts[1:]] if len(firsts) > 1 else firsts


def _drift(points: Sequence[tuple[int, float]], series: Sequence[float], *, limit: float) -> Drift | None:
    if series[-1] <= 0:
        return None
    chance = chance_of_fall([value for _, value in points])
    if chance > limit:
        return None
    start, newest = points[0][0], len(series) - 1
    slope, intercept = theil_sen([(at, series[at]) for at in range(max(start, newest + 1 - LINE_SESSIONS), newest + 1)])
    first, last = intercept + slope * start, intercept + slope * newest
    if slope >= 0 or max(last, 0.0) > -slope * (newest - start):
        return None
    falls = [(before - after, at) for (_, before), (at, after) in pairwise(points)]
    largest, at = max(falls)
    return Drift(
        first=first,
        last=last,
        slope=slope,
        sessions=newest - start + 1,
        sessions_left=max(last, 0.0) / -slope,
        chance=chance,
        jump_at=at,
        jump_share=largest / (first - last),
    )


@lru_cache(maxsize=1024)
def _orders_by_rising_pairs(multiplicities: tuple[int, ...]) -> tuple[int, ...]:
    """Return how many orders of a multiset have 0, 1, 2, ... rising pairs."""
    coefficients = _q_factorial(sum(multiplicities))
    for many in multiplicities:
        for size in range(2, many + 1):
            coefficients = _divide(coefficients, size)
    return tuple(coefficients)


def _q_factorial(n: int) -> list[int]:
    """Return the coefficients of the product of (1 + q + ... + q^(k-1)) for k up to n."""
    coefficients = [1]
    for size in range(2, n + 1):
        product = [0] * (len(coefficients) + size - 1)
        window = 0
        for at in range(len(product)):
            window += coefficients[at] if at < len(coefficients) else 0
            window -= coefficients[at - size] if at >= size else 0
            product[at] = window
        coefficients = product
    return coefficients


def _divide(coefficients: list[int], size: int) -> list[int]:
    """Divide a polynomial by 1 + q + ... + q^(size-1), which must divide it: times (1 - q), over (1 - q^size)."""
    quotient: list[int] = []
    for at in range(len(coefficients) - size + 1):
        value = coefficients[at] - (coefficients[at - 1] if at else 0) + (quotient[at - size] if at >= size else 0)
        quotient.append(value)
    return quotient
