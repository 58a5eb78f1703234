"""Tail probabilities that the standard library lacks, computed by quadrature."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import erfc, exp, floor, inf, lgamma, log, log1p, pi, sqrt

_EDGE = 20.0
"""Quadrature stops where the density is e^-20 of its peak."""
_POINTS = 64
_STEP, _REACH = 0.1, 8.0
"""Step and limit of the trapezoid rule over a Gaussian: a step of 0.1 gives twelve digits."""
_EXACT_ITEMS = 2_000
"""Binomial tails of more items are approximated by a Gaussian."""


def normal_survival(z: float) -> float:
    """Return P(Z > z) of a standard normal variable."""
    return 0.5 * erfc(z / sqrt(2))


def t_survival(t: float, freedom: float) -> float:
    """Return P(T > t) of Student's t; `freedom`, its degrees of freedom, may be fractional or infinite."""
    return sum(weight * normal_survival(t * scale) for scale, weight in _scales(freedom))


@lru_cache(maxsize=256)
def t_quantile(tail: float, freedom: float) -> float:
    """Return the t that is exceeded with probability `tail`, which must not be above 1/2."""
    low, high = 0.0, 1.0
    while t_survival(high, freedom) > tail:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if t_survival(middle, freedom) > tail else (low, middle)
    return high


def best_of_survival(lead: float, others: int, freedom: float) -> float:
    """Return P that the best of `others` values exceeds one more by `lead` noise deviations, if all means are equal.

    Dunnett's one-sided comparison of many treatments with a control (1955, JASA 50, 1096-1121): Gaussian noise whose
    deviation is estimated with `freedom` degrees of freedom. It corrects for the bias of a maximum.
    """
    below = sum(weight * _all_below(lead * scale, others) for scale, weight in _scales(freedom))
    return min(1.0, max(0.0, 1 - below))


@lru_cache(maxsize=4096)  # a run evaluated at every step repeats few arguments thousands of times
def binomial_survival(hits: int, items: int, chance: float) -> float:
    """Return P(X >= hits) of a binomial; above 2,000 items by a Gaussian with continuity correction."""
    if hits <= 0:
        return 1.0
    if chance <= 0 or hits > items:
        return 0.0
    if chance >= 1:
        return 1.0
    if items > _EXACT_ITEMS:
        return normal_survival((hits - 0.5 - items * chance) / sqrt(items * chance * (1 - chance)))
    whole = lgamma(items + 1)
    logs = (
        whole - lgamma(n + 1) - lgamma(items - n + 1) + n * log(chance) + (items - n) * log1p(-chance)
        for n in range(hits, items + 1)
    )
    return min(1.0, sum(map(exp, logs)))


def hits_of(value: float, items: int) -> int:
    """Return the number of successes behind a mean over `items`; 0.01 allows for single-precision rounding."""
    return floor(value * items + 0.01)


def _all_below(lead: float, others: int) -> float:
    count = round(2 * _REACH / _STEP)
    points = (-_REACH + _STEP * n for n in range(count + 1))
    return _STEP * sum(exp(-z * z / 2) * (1 - normal_survival(z + lead)) ** others for z in points) / sqrt(2 * pi)


@lru_cache(maxsize=256)
def _scales(freedom: float) -> tuple[tuple[float, float], ...]:
    """Nodes and weights of chi / sqrt(freedom), the ratio of estimated and true deviation; even in its logarithm."""
    if freedom == inf:
        return ((1.0, 1.0),)

    def height(u: float) -> float:
        return freedom * (u - (exp(2 * u) - 1) / 2)

    low, high = (_edge(height, way) for way in (-1, 1))
    nodes = [low + (high - low) * n / _POINTS for n in range(_POINTS + 1)]
    heights = [exp(height(u)) for u in nodes]
    total = sum(heights)
    return tuple((exp(u), value / total) for u, value in zip(nodes, heights, strict=True))


def _edge(height: Callable[[float], float], way: int) -> float:
    far = 1.0
    while height(way * far) > -_EDGE:
        far *= 2
    near = 0.0
    for _ in range(40):
        middle = (near + far) / 2
        near, far = (near, middle) if height(way * middle) < -_EDGE else (middle, far)
    return way * far
