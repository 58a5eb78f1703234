"""The main metric of a recipe: which one it is, which direction is better, and how it changed at the end."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import linear_regression
from typing import Literal

from pytest_smoke.criteria import parse
from pytest_smoke.criteria.nodes import Binary, Call, Condition, MetricRef, Negate, Node

Better = Literal["higher", "lower"]

LOWER_IS_BETTER = frozenset(
    {"loss", "nll", "ce", "bce", "perplexity", "ppl", "bpb", "bpc", "error", "errors", "err", "wer", "cer", "ter"}
    | {"mse", "mae", "rmse", "fid", "distance", "regret"}
)
"""A metric with one of these words in its name is better when lower; any other when higher."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
EVALUATIONS = 5
"""`final_slope` fits at most this many of the last evaluations."""
MIN_FOR_ERROR = 4
"""Three points leave a line with two parameters one degree of freedom: too few for a standard error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MainMetric:
    """A metric of `evaluate` and its better direction."""

    name: str
    better: Better


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalSlope:
    """A straight line through the last evaluations."""

    change: float
    """Along the line, from the first to the last of these evaluations, in units of the metric."""
    standard_error: float | None
    """Standard error of `change`; None with fewer than four evaluations."""
    evaluations: int


def lower_is_better(name: str) -> bool:
    """Tell from a metric's name whether lower is better: `val_loss`, `latent_nll`, `errorRate`."""
    return not LOWER_IS_BETTER.isdisjoint(word.lower() for word in _WORD.findall(name))


def main_metric(
    accept: Sequence[str], metrics: Collection[str], declared: Mapping[str, Better | None]
) -> MainMetric | None:
    """Return the first of `metrics` that a criterion of `accept` names, else the first one; None if there are none.

    The better direction is the `declared` one, else the one the criterion asks for, else (`==`, or no criterion) the
    one its name suggests.
    """
    for text in accept:
        for name, rising in _directions(parse(text).condition):
            if name in metrics:
                guess = _by_name(name) if rising is None else _better(rising)
                return MainMetric(name=name, better=declared.get(name) or guess)
    first = next(iter(metrics), None)
    return None if first is None else MainMetric(name=first, better=declared.get(first) or _by_name(first))


def final_slope(points: Sequence[tuple[int, float]]) -> FinalSlope | None:
    """Fit the last five of `points` (optimizer step, value); None with one point, or if one of them is not finite.

    Least squares; the standard error of the slope is sqrt(RSS / (n - 2) / Sxx) (Draper and Smith, Applied Regression
    Analysis, 3rd ed., section 1.4).
    """
    newest = points[-EVALUATIONS:]
    steps, values = [step for step, _ in newest], [value for _, value in newest]
    if len(newest) < 2 or steps[0] == steps[-1] or not all(map(math.isfinite, values)):
        return None
    slope, level = linear_regression(steps, values)
    span = steps[-1] - steps[0]
    error = None
    if len(newest) >= MIN_FOR_ERROR:
        centre = math.fsum(steps) / len(steps)
        squares = math.fsum((step - centre) ** 2 for step in steps)
        residuals = math.hypot(*(value - level - slope * step for step, value in newest))
        error = span * residuals / math.sqrt((len(newest) - 2) * squares)
    return FinalSlope(change=slope * span, standard_error=error, evaluations=len(newest))


def _by_name(name: str) -> Better:
    return "lower" if lower_is_better(name) else "higher"


def _better(rising: bool) -> Better:
    return "higher" if rising else "lower"


def _directions(condition: Condition) -> Iterator[tuple[str, bool | None]]:
    """Each metric of a condition, left to right, and whether a higher value helps to meet it (None: `==` or `!=`)."""
    left_rises = condition.order in (">", ">=")
    for side, rises in ((condition.left, left_rises), (condition.right, not left_rises)):
        for name, same in _signed(side, same=True):
            yield name, (rises == same) if condition.order in ("<", "<=", ">", ">=") else None


def _signed(node: Node, *, same: bool) -> Iterator[tuple[str, bool]]:
    """Each metric below `node`, and whether the node's value rises with it if all values are positive."""
    match node:
        case MetricRef():
            yield node.name, same
        case Call():
            yield from _signed(node.argument, same=same)
        case Negate():
            yield from _signed(node.operand, same=not same)
        case Binary():
            yield from _signed(node.left, same=same)
            yield from _signed(node.right, same=same == (node.sign in "+*"))
