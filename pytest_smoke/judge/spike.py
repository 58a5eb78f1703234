"""Per-point alarms: a run of losses above everything before it, and a level far above the first one."""

from __future__ import annotations

from collections import deque
from math import comb
from statistics import median

REFERENCE = 50
"""Points that a spike must exceed, every one of them."""
FALSE_SPIKES = 0.002
"""Chance of one false spike in a whole smoke under exchangeable noise, whatever its distribution."""
LEVEL_GATE = 0.10
PROGRESS_GATE = 0.03
MAD_GATE = 4.0


def streak_needed(reference: int, points: int) -> int:
    """Smallest p with C(reference + p, p) >= points / FALSE_SPIKES.

    All of p exchangeable values exceed all of `reference` others with probability 1 / C(reference + p, p).
    """
    p = 1
    while comb(reference + p, p) * FALSE_SPIKES < points:
        p += 1
    return p


class Spike:
    """The newest p losses exceed every one of the 50 before them."""

    def __init__(self, planned: int) -> None:
        self._planned = planned
        self._reference: deque[float] = deque(maxlen=REFERENCE)
        self._high = float("-inf")
        self._streak: list[float] = []
        self._needed = {n: streak_needed(n, planned) for n in range(10, REFERENCE + 1)}

    def add(self, value: float, progress: float) -> bool:
        reference = self._reference
        if value > self._high and len(reference) >= 10:
            self._streak.append(value)
            if len(self._streak) >= self._needed[len(reference)]:
                mid = median(reference)
                mad = median(abs(v - mid) for v in reference)
                gate = max(LEVEL_GATE * abs(mid), PROGRESS_GATE * progress, MAD_GATE * mad)
                if min(self._streak) > self._high + gate * 0 and min(self._streak) > mid + gate:
                    return True
            return False
        if self._streak:
            for old in self._streak:
                self._push(old)
            self._streak.clear()
        self._push(value)
        return False

    def _push(self, value: float) -> None:
        reference = self._reference
        evicted = reference[0] if len(reference) == REFERENCE else None
        reference.append(value)
        if value >= self._high:
            self._high = value
        elif evicted == self._high:
            self._high = max(reference)
