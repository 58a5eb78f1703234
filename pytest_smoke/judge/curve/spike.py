"""A run of losses above all before them: an alarm that needs no block."""

from __future__ import annotations

from collections import deque
from math import comb

from pytest_smoke.judge.curve.blocks import middle

REFERENCE_POINTS = 50
"""Losses that a spike must exceed, every one of them."""
FEWEST_REFERENCE = 10
"""Before so many points nothing is a spike."""
FALSE_SPIKES = 0.002
"""Bound on the chance of one false spike in a whole smoke, under exchangeable noise of any distribution."""
SPIKE_LEVEL, SPIKE_PROGRESS, SPIKE_MADS = 0.10, 0.03, 4.0
"""A spike stands above the median of the reference by the largest of: 10 % of it, 3 % of the progress, 4 MAD."""


def streak_needed(reference: int, points: int) -> int:
    """Smallest p with C(reference + p, p) >= points / FALSE_SPIKES.

    p exchangeable values all exceed `reference` others with probability 1 / C(reference + p, p).
    """
    p = 1
    while comb(reference + p, p) * FALSE_SPIKES < points:
        p += 1
    return p


class Spike:
    """p consecutive losses, every one above every one of the 50 before them, by a margin."""

    def __init__(self, planned: int) -> None:
        self.streak: list[float] = []
        self.before = 0
        """Step before the streak."""
        self.first = 0
        """First step of the streak."""
        self.last = 0
        """Newest step."""
        self._reference: deque[float] = deque(maxlen=REFERENCE_POINTS)
        self._high = float("-inf")
        self._needed = [streak_needed(size, planned) for size in range(FEWEST_REFERENCE, REFERENCE_POINTS + 1)]

    def add(self, step: int, value: float, progress: float) -> bool:
        """Whether this point completes a spike. `progress`: fall of the loss so far."""
        reference, streak = self._reference, self.streak
        if value > self._high and len(reference) >= FEWEST_REFERENCE:
            if not streak:
                self.before, self.first = self.last, step
            streak.append(value)
            self.last = step
            if len(streak) >= self._needed[len(reference) - FEWEST_REFERENCE] and min(streak) > self.threshold(
                progress
            ):
                return True
            if len(streak) == REFERENCE_POINTS:
                self._settle()
            return False
        if streak:
            self._settle()
        self._push(value)
        self.last = step
        return False

    def threshold(self, progress: float) -> float:
        """What every loss of the streak must exceed, beside the reference itself."""
        mid = self.level()
        mad = middle(sorted([abs(value - mid) for value in self._reference]))
        return mid + max(SPIKE_LEVEL * abs(mid), SPIKE_PROGRESS * progress, SPIKE_MADS * mad)

    def level(self) -> float:
        """Median of the reference."""
        return middle(sorted(self._reference))

    @property
    def reference_points(self) -> int:
        """Losses compared with."""
        return len(self._reference)

    def _settle(self) -> None:
        """A streak that ended, or went on without the margin, joins the reference."""
        for value in self.streak:
            self._push(value)
        self.streak.clear()

    def _push(self, value: float) -> None:
        reference = self._reference
        evicted = reference[0] if len(reference) == REFERENCE_POINTS else None
        reference.append(value)
        if value >= self._high:
            self._high = value
        elif evicted == self._high:
            self._high = max(reference)
