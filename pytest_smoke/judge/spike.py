"""Alarms that need no block: a run of losses above all before them, and a level far above the first one."""

from __future__ import annotations

from collections import deque
from math import ceil, comb, inf

from pytest_smoke.judge.blocks import middle

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
HEADS = (8, 12, 18, 25)
"""First losses compared with as many of the newest: the fewer see a run that breaks sooner."""
SHARES = (0.52, 0.7, 0.9)
"""Shares of the newest losses that must exceed a place among the first: most of them a high one, nearly all a lower."""
FALSE_DIVERGENCES = 0.01
"""Chance of a false divergence, per head and share, in a smoke of exchangeable noise with disjoint windows. It is met
only by a flat series with noise of 30 % or more; 0.002 stopped 2 % fewer labelled instabilities, 0.05 no more."""


def places(size: int, planned: int) -> list[tuple[int, int]]:
    """Pairs (m, j): m of the newest `size` losses above the j-th largest of the first `size` is no chance.

    Among 2n exchangeable values the m + j - 1 largest hold h of the first n with hypergeometric probability
    C(n, h) C(n, m + j - 1 - h) / C(2n, m + j - 1); at least m are new where h < j.
    """
    allowed = FALSE_DIVERGENCES * size / max(planned, size)
    found = []
    for share in SHARES:
        m = ceil(share * size)
        j = 0
        while j < size and _chance(size, m, j + 1) <= allowed:
            j += 1
        if j:
            found.append((m, j))
    return found


def _chance(n: int, m: int, j: int) -> float:
    top = m + j - 1
    ways = sum(comb(n, h) * comb(n, top - h) for h in range(j) if top - h <= n)
    return ways / comb(2 * n, top)


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
        self.level = 0.0
        """Median of the first losses."""
        self.threshold = inf
        """Level that so many of the newest losses exceeded."""
        self.exceeding = self.points = 0
        """How many did, of how many."""
        self.last_head_step = 0
        """Last step of the first losses."""
        self._planned = planned
        self._head: list[tuple[int, float]] = []
        self._counts: list[_Count] = []
        self._least = inf
        self._busy = False

    def add(self, step: int, value: float) -> bool:
        """Whether the run has diverged."""
        found = False
        if self._busy or value > self._least:
            self._busy = False
            for count in self._counts:
                found = count.add(value) or found
                self._busy = self._busy or count.above > 0
            if found:
                self._name()
        if self._head is not _DONE:
            self._start(step, value)
        return found

    def _start(self, step: int, value: float) -> None:
        self._head.append((step, value))
        size = len(self._head)
        if size in HEADS:
            head = sorted(value for _, value in self._head)
            self._counts += [
                _Count(size, exceeding, max(head[-place], _raised(middle(head))), middle(head), step)
                for exceeding, place in places(size, self._planned)
            ]
            self._least = min((count.threshold for count in self._counts), default=inf)
        if size == HEADS[-1]:
            self._head = _DONE

    def _name(self) -> None:
        count = next(count for count in self._counts if count.found)
        self.level, self.threshold, self.last_head_step = count.level, count.threshold, count.step
        self.exceeding, self.points = count.exceeding, count.size


def _raised(level: float) -> float:
    return level + DIVERGED_SHARE * abs(level)


class _Count:
    """How many of the newest losses exceed one threshold."""

    def __init__(self, size: int, exceeding: int, threshold: float, level: float, step: int) -> None:
        self.size, self.exceeding, self.threshold, self.level, self.step = size, exceeding, threshold, level, step
        self.above = 0
        self.found = False
        self._mask = (1 << size) - 1

    def add(self, value: float) -> bool:
        self.above = (self.above << 1 | (value > self.threshold)) & self._mask
        self.found = self.above.bit_count() >= self.exceeding
        return self.found


_DONE: list[tuple[int, float]] = []
