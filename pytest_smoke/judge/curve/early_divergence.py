"""A run that blows up in its very first steps, and has no healthy level to compare with but its first loss."""

from __future__ import annotations

BLOWN = ((24, 3.0), (8, 10.0), (4, 30.0))
"""(losses in a row, multiple of the first loss that each exceeds): the farther, the fewer. No healthy labelled run has
13 of any 16 losses above 1.3 times its first one. Of 10,000 simulated flat runs whose noise is half the level, 2
(lognormal) or 13 (gamma) had a streak; where it is all of it, 60 or 320 (exponential)."""
LATEST_START = 8
"""Points after the first by which the streak has begun; `Divergence` compares with a median of as many."""


class EarlyDivergence:
    """The first loss, and whether all that follow stay far above it."""

    def __init__(self) -> None:
        self.first_step = 0
        """Step of the first loss."""
        self.level = 0.0
        """The first loss."""
        self.lowest = 0.0
        """Of the streak."""
        self.streak = 0
        """Losses in it."""
        self._after = -1
        self._newest: list[float] = []

    def add(self, step: int, value: float) -> bool:
        """Whether this loss completes a streak; a first loss of zero or less has no multiple."""
        self._after += 1
        if self._after == 0:
            self.first_step, self.level = step, value
            return False
        if self._after > LATEST_START + BLOWN[0][0] or self.level <= 0:
            return False
        self._newest.append(value)
        for streak, times in BLOWN:
            lowest = min(self._newest[-streak:])
            begun = self._after - streak < LATEST_START
            if begun and len(self._newest) >= streak and lowest > times * self.level:
                self.streak, self.lowest = streak, lowest
                return True
        return False
