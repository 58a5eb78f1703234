"""A level far above the first one: sees a run that never had a trough."""

from __future__ import annotations

from math import ceil, comb, inf

from pytest_smoke.judge.curve.blocks import middle

DIVERGED_SHARE = 0.30
"""Rise over the first level that no healthy labelled run showed in the median of its newest losses."""
HEADS = (8, 12, 18, 25)
"""First losses compared with as many of the newest: the fewer see a run that breaks sooner."""
SHARES = (0.52, 0.7, 0.9)
"""Shares of the newest losses that must exceed a place among the first: most of them a high one, nearly all a lower."""
FALSE_DIVERGENCES = 0.003
"""Chance of a false divergence, per head and share, in a smoke of exchangeable noise with disjoint windows. It is met
only by a flat series with noise of 30 % or more; 0.01 stopped 1 % more labelled instabilities, 0.05 no more yet."""


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
