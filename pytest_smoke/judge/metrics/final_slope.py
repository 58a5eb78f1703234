"""Where a metric was heading when the smoke ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression

EVALUATIONS = 5
"""Newest evaluations a drift is fitted to, at most."""
ENOUGH_FOR_NOISE = 4
"""With three points on a line of two parameters one degree of freedom is left: no measure of noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A straight line through the newest evaluations."""

    change: float
    """From the first to the last of them along the line, in units of the metric."""
    noise: float | None
    """Standard error of `change`; None with fewer than four evaluations."""
    evaluations: int


def drift(points: Sequence[tuple[int, float]]) -> Drift | None:
    """The drift over the newest five of `points` (optimizer step, value); None with one, or where one is not finite.

    Least squares; the standard error of the slope is sqrt(RSS / (n - 2) / Sxx) (Draper and Smith, Applied Regression
    Analysis, 3rd ed., section 1.4).
    """
    newest = points[-EVALUATIONS:]
    steps, values = [step for step, _ in newest], [value for _, value in newest]
    if len(newest) < 2 or steps[0] == steps[-1] or not all(map(math.isfinite, values)):
        return None
    slope, level = linear_regression(steps, values)
    span = steps[-1] - steps[0]
    noise = None
    if len(newest) >= ENOUGH_FOR_NOISE:
        centre = math.fsum(steps) / len(steps)
        squares = math.fsum((step - centre) ** 2 for step in steps)
        residuals = math.hypot(*(value - level - slope * step for step, value in newest))
        noise = span * residuals / math.sqrt((len(newest) - 2) * squares)
    return Drift(change=slope * span, noise=noise, evaluations=len(newest))
