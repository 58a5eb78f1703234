"""Which steps were spent near the peak learning rate: only these can earn a promotion."""

from __future__ import annotations

from math import exp, floor, isfinite, log, nan

PEAK_SHARE = 0.80
"""A step is evidence at this share of the peak or more."""
LONG_TAIL_STEPS = 2500
"""Evidence that no window needs more of: what a cosine of 10,000 steps gives."""
BINS_PER_E = 10_000
"""A peak known only at the end: steps are counted in bins of learning rate 0.01 % wide: 2,232 can still count."""


class Evidence:
    """Counts steps, not points: a point logged every 50 steps speaks of 50."""

    def __init__(self, peak_lr: float | None, needed: int | None) -> None:
        self.seen = False
        """Whether any learning rate was given."""
        self._peak_lr = peak_lr
        self._needed = needed
        self._bins: dict[int, list[int]] = {}
        self._highest: int | None = None
        self._lr = nan
        self._bin: int | None = None
        self._first: int | None = None
        self._last = 0

    def add(self, step: int, lr: float | None) -> None:
        """One point; a learning rate that is not logged is the one before."""
        if self._first is None:
            self._first, self._last = step, step - 1  # the first point is a step, too
        if lr is not None and isfinite(lr) and lr != self._lr:
            self._lr, self.seen = lr, True
            self._bin = self._bin_of(lr)
        if self._bin is not None:
            spent = self._bins.setdefault(self._bin, [0, step])
            spent[0] += step - self._last if step > self._last else 0
            spent[1] = step
        self._last = step

    def _bin_of(self, lr: float) -> int | None:
        if self._peak_lr is not None:
            return 0 if lr >= PEAK_SHARE * self._peak_lr * (1 - 1e-9) else None
        if lr <= 0:
            return None
        place = floor(log(lr) * BINS_PER_E + 0.5)
        if self._highest is None or place > self._highest:
            self._highest = place
            floor_bin = self._floor()
            self._bins = {old: spent for old, spent in self._bins.items() if old >= floor_bin}
        return place if place >= self._floor() else None

    def _floor(self) -> int:
        assert self._highest is not None
        return self._highest + floor(log(PEAK_SHARE) * BINS_PER_E)

    @property
    def peak(self) -> float | None:
        """The declared peak, else the largest learning rate seen (to 0.01 %)."""
        if self._peak_lr is not None or self._highest is None:
            return self._peak_lr
        return exp(self._highest / BINS_PER_E)

    @property
    def steps(self) -> int:
        """Steps spent at 80 % of the peak or more."""
        return sum(spent[0] for spent in self._bins.values())

    @property
    def end(self) -> int | None:
        """The last step that counts."""
        return max((spent[1] for spent in self._bins.values()), default=None)

    @property
    def needed(self) -> int:
        """Steps of evidence that a promotion needs: as told, else half of the window, 2,500 at most."""
        if self._needed is not None:
            return self._needed
        return min((self._last - (self._first or 0)) // 2, LONG_TAIL_STEPS)
