"""Steps spent near the peak learning rate: only these can earn a promotion."""

from __future__ import annotations

from math import exp, floor, isfinite, log, nan

PEAK_SHARE = 0.80
"""A step counts as evidence if its learning rate is at least this share of the peak."""
MAX_STEPS_NEEDED = 2500
"""Upper limit of the default evidence requirement: a cosine schedule of 10,000 steps has as many near its peak."""
STILL_RISING_SHARE = 0.05
"""A learning rate that has not changed for more than this share of the steps is at its peak."""
BINS_PER_E = 10_000
"""Bins of learning rate per factor e. The peak may be known only at the end, so steps are counted in bins 0.01 % wide,
of which at most 2,232 can still count."""


class Evidence:
    """Count the steps near the peak learning rate. A point logged every 50 steps counts as 50 steps."""

    def __init__(self, peak_lr: float | None, needed: int | None) -> None:
        self.has_learning_rate = False
        """Whether any point had a learning rate."""
        self._peak_lr = peak_lr
        self._needed = needed
        self._bins: dict[int, list[int]] = {}
        """Bin of learning rate -> [steps spent, last step]."""
        self._highest_bin: int | None = None
        self._lr = nan
        self._bin: int | None = None
        self._has_only_risen = False
        self._last_change = 0
        """Step of the last change of the learning rate."""
        self._first_step: int | None = None
        self._last_step = 0
        self._has_changed = False

    def add(self, step: int, lr: float | None) -> None:
        """Add one point. Without a learning rate, the previous one still holds."""
        if self._first_step is None:
            self._first_step, self._last_step = step, step - 1  # the first point counts as one step
        if lr is not None and isfinite(lr) and lr != self._lr:
            if self.has_learning_rate:
                self._has_only_risen = lr > self._lr and (self._has_only_risen or not self._has_changed)
                self._last_change = step
                self._has_changed = True
            self._lr, self.has_learning_rate = lr, True
            self._bin = self._bin_of(lr)
        if self._bin is not None:
            spent = self._bins.setdefault(self._bin, [0, step])
            spent[0] += step - self._last_step if step > self._last_step else 0
            spent[1] = step
        self._last_step = step

    def _bin_of(self, lr: float) -> int | None:
        if self._peak_lr is not None:
            return 0 if lr >= PEAK_SHARE * self._peak_lr * (1 - 1e-9) else None
        if lr <= 0:
            return None
        index = floor(log(lr) * BINS_PER_E + 0.5)
        if self._highest_bin is None or index > self._highest_bin:
            self._highest_bin = index
            lowest = self._lowest_bin()
            self._bins = {old: spent for old, spent in self._bins.items() if old >= lowest}
        return index if index >= self._lowest_bin() else None

    def _lowest_bin(self) -> int:
        assert self._highest_bin is not None
        return self._highest_bin + floor(log(PEAK_SHARE) * BINS_PER_E)

    @property
    def is_warming_up(self) -> bool:
        """Whether the learning rate has only risen so far, and was still rising in the last steps.

        With a declared peak it is known how far it is from there.
        """
        steps = self._last_step - (self._first_step or 0)
        is_rising = self._last_step - self._last_change <= STILL_RISING_SHARE * steps
        return self._peak_lr is None and self._has_only_risen and is_rising

    @property
    def peak(self) -> float | None:
        """The declared peak, or the largest learning rate so far (to 0.01 %); None if all were 0."""
        if self._peak_lr is not None or self._highest_bin is None:
            return self._peak_lr
        return exp(self._highest_bin / BINS_PER_E)

    @property
    def steps(self) -> int:
        """Number of steps at 80 % of the peak or more."""
        return sum(spent[0] for spent in self._bins.values())

    @property
    def end(self) -> int | None:
        """Last step that counts; None if none does."""
        return max((spent[1] for spent in self._bins.values()), default=None)

    @property
    def needed(self) -> int:
        """Steps of evidence that a promotion needs: as declared, or half of the steps so far, at most 2,500."""
        if self._needed is not None:
            return self._needed
        return min((self._last_step - (self._first_step or 0)) // 2, MAX_STEPS_NEEDED)
