"""The evaluations of one metric, turned so that higher is better, and their noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum, inf, sqrt

from pytest_smoke.judge.curve.messages import number
from pytest_smoke.judge.metrics.direction import lower_is_better
from pytest_smoke.recipe.metric import Metric

LARGEST = 1e50
"""Perplexities of a diverged model are larger; their fourth powers must still be numbers."""
MIN_EVALUATIONS = 5
"""Fewer give no noise: the estimate from five has one and a half degrees of freedom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Standard deviation of one evaluation."""

    deviation: float
    freedom: float
    """Degrees of freedom of its estimate; infinite where it is known."""
    source: str
    """Where it comes from, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What `evaluate` returned for one metric; only finite values (up to `LARGEST`), by rising step."""

    name: str
    spec: Metric
    steps: tuple[int, ...]
    values: tuple[float, ...]
    dropped: int
    """Values that were not finite, or larger than `LARGEST`."""

    @classmethod
    def of(cls, name: str, points: Sequence[tuple[int, float]], spec: Metric | None) -> History:
        """From `(step, value)` points; a step evaluated twice counts with its newest value."""
        newest = sorted(dict(points).items())
        kept = [(step, float(value)) for step, value in newest if abs(value) <= LARGEST]  # no NaN is
        return cls(
            name=name,
            spec=spec or Metric(),
            steps=tuple(step for step, _ in kept),
            values=tuple(value for _, value in kept),
            dropped=len(newest) - len(kept),
        )

    def counted_from(self, step: int) -> History:
        """The same with `step` as step 0."""
        return replace(self, steps=tuple(one - step for one in self.steps))

    @property
    def sign(self) -> int:
        """-1 where lower is better."""
        lower = self.spec.better == "lower" or (self.spec.better is None and lower_is_better(self.name))
        return -1 if lower else 1

    @property
    def goods(self) -> list[float]:
        """The values, turned so that higher is better."""
        return [self.sign * value for value in self.values]

    @property
    def items(self) -> int | None:
        """Items of each mean, where it is declared to be one and every value can be one."""
        return self.spec.items if self.spec.items and all(0 <= value <= 1 for value in self.values) else None

    def noise(self, *rates: float) -> Noise | None:
        """Noise of one evaluation: the larger of what the evaluations show and what so few items must have.

        `rates`: the values it is asked about. Their mean is the rate of the binomial, whose variance no mean of items
        between 0 and 1 exceeds (Bhatia & Davis 2000). None with neither items nor enough evaluations.
        """
        seen = self._scatter()
        items = self.items
        if items is None:
            return seen
        rate = fsum(rates) / len(rates)
        sampled = sqrt(max(0.0, rate * (1 - rate)) / items)
        if seen is not None and seen.deviation > sampled:
            return seen
        return Noise(deviation=sampled, freedom=inf, source=f"{items} items")

    def _scatter(self) -> Noise | None:
        """Each evaluation against the line through its two neighbours (Gasser et al. 1986, Biometrika 73, 625-633).

        A straight trend of any slope leaves it untouched. Its variance on even steps, 35/9 s^4 / (n - 2), is that of
        18/35 (n - 2) degrees of freedom.
        """
        count = len(self.values)
        if count < MIN_EVALUATIONS:
            return None
        squares = []
        for at in range(1, count - 1):
            before, here, after = self.steps[at - 1 : at + 2]
            left = (after - here) / (after - before)
            low, value, high = self.values[at - 1 : at + 2]
            residual = left * (low - value) + (1 - left) * (high - value)
            squares.append(residual * residual / (left * left + (1 - left) ** 2 + 1))
        deviation = sqrt(fsum(squares) / (count - 2))
        return Noise(deviation=deviation, freedom=max(1.0, 18 / 35 * (count - 2)), source=f"{count} evaluations")

    def show(self, value: float) -> str:
        """`8.33 %` of items, else four digits."""
        if self.items is None:
            return number(value)
        return f"{100 * value:.2f} %" if value >= 5e-4 or not value else f"{100 * value:.2g} %"

    def remark(self) -> str:
        """What was left out or could not be used; empty where nothing was."""
        parts = []
        if self.dropped:
            parts.append(f"; {self.dropped} value{'s' * (self.dropped > 1)} not finite or over {LARGEST:g}, left out")
        if self.spec.items and self.items is None:
            parts.append(f"; items: {self.spec.items} unused, not every value lies between 0 and 1")
        return "".join(parts)

    def too_few(self) -> str:
        """The sentence where nothing can be told."""
        count = len(self.values)
        return (
            f"{self.name} was evaluated {count} time{'s' * (count != 1)}, too few to tell from noise: "
            f"evaluate more often (smoke.evaluate_every_steps){self.remark()}"
        )
