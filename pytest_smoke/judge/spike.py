"""Alarms that need no block: a run of losses above all before them, and a level far above the first one."""

from __future__ import annotations

from collections import deque
from math import comb, exp, log, sqrt

from pytest_smoke.judge.blocks import MAD_SD, middle

REFERENCE_POINTS = 50
"""Losses that a spike must exceed, every one of them."""
FEWEST_REFERENCE = 10
"""Before so many points nothing is a spike."""
FALSE_SPIKES = 0.002
"""Bound on the chance of one false spike in a whole smoke, under exchangeable noise of any distribution."""
SPIKE_LEVEL, SPIKE_PROGRESS, SPIKE_MADS = 0.10, 0.03, 4.0
"""A spike stands above the median of the reference by the largest of: 10 % of it, 3 % of the progress, 4 MAD."""
DIVERGED_SHARE = 0.30
"""Rise over the first level that no healthy labelled run showed in the median of its newest losses."""
EXPLODED_FACTOR, EXPLODED_POINTS = 3.0, 3
"""Three losses in a row above three times the first level need no median."""
HEAD_SHARE, FEWEST_HEAD, MOST_HEAD = 1 / 40, 5, 25
"""Points whose median is the first level: a fortieth of the window, 5 to 25."""
HEAD_SIGMAS = 3.0
"""Standard errors between two medians of so many points. 2 failed a healthy log of decade-wide noise, 4.5 saw less."""
MEDIAN_SE = 1.2533
"""Standard error of a gaussian median times sqrt(n): sqrt(pi / 2)."""


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
            return len(streak) >= self._needed[len(reference) - FEWEST_REFERENCE] and min(streak) > self.threshold(
                progress
            )
        if streak:
            for earlier in streak:
                self._push(earlier)
            streak.clear()
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

    def _push(self, value: float) -> None:
        reference = self._reference
        evicted = reference[0] if len(reference) == REFERENCE_POINTS else None
        reference.append(value)
        if value >= self._high:
            self._high = value
        elif evicted == self._high:
            self._high = max(reference)


class Divergence:
    """The newest losses against the first ones: sees a run that never had a trough."""

    def __init__(self, planned: int) -> None:
        self.points = max(FEWEST_HEAD, min(MOST_HEAD, int(planned * HEAD_SHARE)))
        """Losses whose median is taken, first and newest."""
        self.level = 0.0
        """Median of the first losses."""
        self.threshold = 0.0
        """Level that the median of the newest losses must not exceed."""
        self.last_head_step = 0
        """Last step of the first losses."""
        self._head: list[float] = []
        self._started = False
        self._exploded = 0.0
        self._above = 0
        self._mask = (1 << self.points) - 1
        self._row = 0

    def add(self, step: int, value: float) -> bool:
        """Whether the run has diverged."""
        if not self._started:
            self._start(step, value)
            return False
        if value <= self.threshold and not self._above:
            return False
        # The median of the newest n exceeds the threshold if and only if more than half of them do.
        self._above = (self._above << 1 | (value > self.threshold)) & self._mask
        self._row = self._row + 1 if value > self._exploded else 0
        return self._above.bit_count() * 2 > self.points or self._row >= EXPLODED_POINTS

    def _start(self, step: int, value: float) -> None:
        self._head.append(value)
        if len(self._head) < self.points:
            return
        head = sorted(self._head)
        self.level = level = middle(head)
        self.last_head_step = step
        apart = HEAD_SIGMAS * MEDIAN_SE * sqrt(2 / len(head)) * MAD_SD
        mad = middle(sorted([abs(value - level) for value in head]))
        self.threshold = level + max(DIVERGED_SHARE * abs(level), apart * mad)
        if head[0] > 0:
            mad = middle(sorted([abs(log(value / level)) for value in head]))
            self.threshold = max(self.threshold, level * exp(min(apart * mad, 50.0)))
        self._exploded = max(self.threshold, EXPLODED_FACTOR * level)
        self._head = []
        self._started = True
