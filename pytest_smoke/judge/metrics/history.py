"""The evaluations of one metric and their noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum, inf, sqrt

from pytest_smoke.judge.metrics.main_metric import lower_is_better
from pytest_smoke.recipe.model import MetricSpec
from pytest_smoke.text import count, number

LARGEST = 1e50
"""Larger values are left out: their fourth powers would overflow. Perplexities of a diverged model can be larger."""
MIN_EVALUATIONS = 5
"""Fewer evaluations give no estimate of noise; five give one with 1.5 degrees of freedom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Standard deviation of one evaluation."""

    deviation: float
    freedom: float
    """Degrees of freedom of the estimate; infinite if the deviation is known."""
    source: str
    """What it was computed from, for messages: `24 items`, `16 evaluations`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The finite values (up to `LARGEST`) that `evaluate` returned for one metric, by rising step."""

    name: str
    spec: MetricSpec
    steps: tuple[int, ...]
    values: tuple[float, ...]
    dropped: int
    """Number of values that were not finite or larger than `LARGEST`."""

    @classmethod
    def of(cls, name: str, points: Sequence[tuple[int, float]], spec: MetricSpec | None) -> History:
        """Build from `(step, value)` points; a step evaluated twice keeps its newest value."""
        newest = sorted(dict(points).items())
        kept = [(step, float(value)) for step, value in newest if abs(value) <= LARGEST]  # False for NaN
        return cls(
            name=name,
            spec=spec or MetricSpec(),
            steps=tuple(step for step, _ in kept),
            values=tuple(value for _, value in kept),
            dropped=len(newest) - len(kept),
        )

    def counted_from(self, step: int) -> History:
        """Return a copy whose steps are counted from `step`."""
        return replace(self, steps=tuple(absolute - step for absolute in self.steps))

    @property
    def sign(self) -> int:
        """1, or -1 if lower is better."""
        lower = self.spec.better == "lower" or (self.spec.better is None and lower_is_better(self.name))
        return -1 if lower else 1

    @property
    def goods(self) -> list[float]:
        """The values times `sign`, so that higher is better."""
        return [self.sign * value for value in self.values]

    @property
    def items(self) -> int | None:
        """Declared number of items behind each value; None if undeclared, or if a value is outside 0 to 1."""
        return self.spec.items if self.spec.items and all(0 <= value <= 1 for value in self.values) else None

    def noise(self, *rates: float) -> Noise | None:
        """Return the noise of one evaluation: the larger of the evaluations' scatter and the sampling noise.

        The sampling noise is that of a binomial at the mean of `rates`, the values to compare: an upper bound for any
        mean of items between 0 and 1 (Bhatia & Davis 2000). None without items and with too few evaluations.
        """
        scatter = self._scatter()
        items = self.items
        if items is None:
            return scatter
        rate = fsum(rates) / len(rates)
        sampled = sqrt(max(0.0, rate * (1 - rate)) / items)
        if scatter is not None and scatter.deviation > sampled:
            return scatter
        return Noise(deviation=sampled, freedom=inf, source=count(items, "item"))

    def _scatter(self) -> Noise | None:
        """Estimate the noise from each value's distance to the line through its two neighbours.

        Gasser et al. 1986, Biometrika 73, 625-633. A linear trend does not change it. On even steps its variance,
        35/9 s^4 / (n - 2), is that of an estimate with 18/35 (n - 2) degrees of freedom.
        """
        total = len(self.values)
        if total < MIN_EVALUATIONS:
            return None
        squares = []
        for at in range(1, total - 1):
            before, here, after = self.steps[at - 1 : at + 2]
            left = (after - here) / (after - before)
            low, value, high = self.values[at - 1 : at + 2]
            residual = left * (low - value) + (1 - left) * (high - value)
            squares.append(residual * residual / (left * left + (1 - left) ** 2 + 1))
        deviation = sqrt(fsum(squares) / (total - 2))
        return Noise(deviation=deviation, freedom=max(1.0, 18 / 35 * (total - 2)), source=f"{total} evaluations")

    def show(self, value: float) -> str:
        """Format a value: a share of items as `8.33 %` (two values are compared, so `text.percent` is too coarse)."""
        if self.items is None:
            return number(value)
        return f"{100 * value:.2f} %" if value >= 5e-4 or not value else f"{100 * value:.2g} %"

    def remark(self) -> str:
        """Name the values or declarations that could not be used; empty if there are none."""
        parts = []
        if self.dropped:
            parts.append(f"; left out {count(self.dropped, 'value')} not finite or above {LARGEST:g}")
        if self.spec.items and self.items is None:
            parts.append(f"; `items: {self.spec.items}` was ignored because some values are not between 0 and 1")
        return "".join(parts)

    def too_few(self) -> str:
        """Return the message of an advisory that has too few evaluations."""
        return (
            f"{self.name} was evaluated {count(len(self.values), 'time')}, too few to tell a trend from noise: "
            f"evaluate more often (smoke.evaluate_every_steps){self.remark()}"
        )
