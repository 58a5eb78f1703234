"""Tail probabilities that the standard library does not have, by quadrature."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import erfc, exp, floor, inf, lgamma, log, log1p, pi, sqrt

_EDGE = 20.0
"""Quadrature ends where the density is e^-20 of its peak."""
_POINTS = 64
_STEP, _REACH = 0.1, 8.0
"""The trapezoid rule on a gaussian converges faster than any power of its step: 0.1 gives twelve digits."""
_EXACT_ITEMS = 2_000
"""Binomial tails of more items are those of a gaussian."""


def normal_survival(z: float) -> float:
    """P(Z > z) of a standard normal."""
    return 0.5 * erfc(z / sqrt(2))


def t_survival(t: float, freedom: float) -> float:
    """P(T > t) of Student's t; `freedom` (degrees) may be broken or infinite."""
    return sum(weight * normal_survival(t * scale) for scale, weight in _scales(freedom))


@lru_cache(maxsize=256)
def t_quantile(tail: float, freedom: float) -> float:
    """The t that is exceeded with probability `tail`, at most 1/2."""
    low, high = 0.0, 1.0
    while t_survival(high, freedom) > tail:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if t_survival(middle, freedom) > tail else (low, middle)
    return high


def best_of_survival(lead: float, others: int, freedom: float) -> float:
    """P that the best of `others` equal means stands `lead` noise deviations or more above one further mean.

    The one-sided comparison of many treatments with a control of Dunnett (1955, JASA 50, 1096-1121): gaussian noise,
    its deviation estimated with `freedom` degrees. It answers for the bias of a maximum.
    """
    missed = sum(weight * _all_below(lead * scale, others) for scale, weight in _scales(freedom))
    return min(1.0, max(0.0, 1 - missed))


@lru_cache(maxsize=4096)  # a run evaluated at every step asks thousands of times for few values
def binomial_survival(hits: int, items: int, chance: float) -> float:
    """P(X >= hits) of X successes in `items`; with more than 2,000 items by the gaussian, continuity corrected."""
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
    """Whole successes in a mean over items; a hundredth is left for the rounding of single precision."""
    return floor(value * items + 0.01)


def _all_below(lead: float, others: int) -> float:
    count = round(2 * _REACH / _STEP)
    points = (-_REACH + _STEP * n for n in range(count + 1))
    return _STEP * sum(exp(-z * z / 2) * (1 - normal_survival(z + lead)) ** others for z in points) / sqrt(2 * pi)


@lru_cache(maxsize=256)
def _scales(freedom: float) -> tuple[tuple[float, float], ...]:
    """Nodes and weights of chi / sqrt(freedom), an estimated deviation over the true one, even in its logarithm."""
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
