"""A run that blows up in its very first steps, and has no healthy level to compare with but its first loss."""

from __future__ import annotations

TIMES = 3.0
"""Rise over the first loss. No healthy labelled run has 13 of any 16 losses above 1.3 times its first one."""
STREAK = 24
"""Losses in a row above it. A flat run has them by chance in 2 of 10,000 cases where its noise is half the level, and
where it is all of it, which untrained models do not show, in 1 of 200 (lognormal) or 50 (exponential)."""
LATEST_START = 8
"""Points after the first by which the streak has begun; `Divergence` compares with a median of as many."""


class Onset:
    """The first loss, and whether all that follow stay far above it."""

    def __init__(self) -> None:
        self.first_step = 0
        """Step of the first loss."""
        self.level = 0.0
        """The first loss."""
        self.lowest = 0.0
        """Of the streak."""
        self._points = 0
        self._streak = 0

    def add(self, step: int, value: float) -> bool:
        """Whether this loss completes the streak; a first loss of zero or less has no multiple."""
        self._points += 1
        if self._points == 1:
            self.first_step, self.level = step, value
            return False
        if self._points > 1 + LATEST_START + STREAK or self.level <= 0:
            return False
        if value <= TIMES * self.level:
            self._streak = 0
            return False
        self.lowest = min(self.lowest, value) if self._streak else value
        self._streak += 1
        return self._streak == STREAK
