"""Detectors of spikes and divergence: they compare single losses and need no block means."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil, comb, inf

from pytest_smoke.judge.curve.trend import median_of_sorted

REFERENCE_POINTS = 50
"""Number of earlier losses that a spike must exceed, every one of them."""
MIN_REFERENCE_POINTS = 10
"""Number of losses before which no spike is detected."""
FALSE_SPIKE_CHANCE = 0.002
"""Bound on the chance of one false spike in a whole curve, under exchangeable noise of any distribution."""
SPIKE_LEVEL, SPIKE_PROGRESS, SPIKE_MADS = 0.10, 0.03, 4.0
"""A spike exceeds the median of the reference by the largest of: 10 % of it, 3 % of the progress, 4 MAD."""

DIVERGED_SHARE = 0.30
"""Rise of the median of the newest losses over the first level: no healthy labelled run had as much."""
HEAD_SIZES = (8, 12, 18, 25)
"""Numbers of first losses, compared with as many of the newest; the smaller ones detect a run that breaks sooner."""
EXCEEDING_SHARES = (0.52, 0.7, 0.9)
"""Shares of the newest losses that must exceed an order statistic of the first losses: a high one if the share is 52 %,
a lower one if it is 90 %."""
FALSE_DIVERGENCE_CHANCE = 0.003
"""Chance of a false divergence, for each size and share, in a curve of exchangeable noise with disjoint windows. Only a
flat series with noise of 30 % or more reaches it; 0.01 detected 1 % more labelled instabilities, 0.05 no more yet."""

EARLY_RULES = ((24, 3.0), (8, 10.0), (4, 30.0))
"""(losses in a row, multiple of the first loss that each exceeds): the larger the multiple, the fewer losses.

No healthy labelled run has 13 of any 16 losses above 1.3 times its first. Of 10,000 simulated flat runs with noise of
half the level, 2 (lognormal) or 13 (gamma) met a rule; with noise as large as the level, 60 or 320 (exponential)."""
EARLY_START_POINTS = 8
"""Points after the first within which an early divergence begins; `DivergenceDetector` needs as many for a median."""


def min_spike_points(reference_points: int, planned_points: int) -> int:
    """Return the smallest p with C(reference + p, p) >= planned / FALSE_SPIKE_CHANCE.

    p exchangeable values all exceed `reference_points` others with probability 1 / C(reference + p, p).
    """
    points = 1
    while comb(reference_points + points, points) * FALSE_SPIKE_CHANCE < planned_points:
        points += 1
    return points


class SpikeDetector:
    """Detect p consecutive losses, each above all of the 50 before them and above a margin.

    p follows from `planned_points` (see `min_spike_points`): 5 for a curve of 2,500 points.
    """

    def __init__(self, planned_points: int) -> None:
        self.streak: list[float] = []
        """The newest losses, all above the reference."""
        self.step_before = 0
        """Last step before the streak."""
        self.first_step = 0
        """First step of the streak."""
        self.last_step = 0
        """Newest step."""
        self._reference: deque[float] = deque(maxlen=REFERENCE_POINTS)
        self._highest = -inf
        sizes = range(MIN_REFERENCE_POINTS, REFERENCE_POINTS + 1)
        self._min_points = [min_spike_points(size, planned_points) for size in sizes]

    def add(self, step: int, value: float, progress: float) -> bool:
        """Add one loss and return whether it completes a spike. `progress` is the fall of the loss so far."""
        reference, streak = self._reference, self.streak
        if value > self._highest and len(reference) >= MIN_REFERENCE_POINTS:
            if not streak:
                self.step_before, self.first_step = self.last_step, step
            streak.append(value)
            self.last_step = step
            min_points = self._min_points[len(reference) - MIN_REFERENCE_POINTS]
            if len(streak) >= min_points and min(streak) > self._threshold(progress):
                return True
            if len(streak) == REFERENCE_POINTS:
                self._absorb_streak()
            return False
        if streak:
            self._absorb_streak()
        self._push(value)
        self.last_step = step
        return False

    @property
    def level(self) -> float:
        """Median of the reference."""
        return median_of_sorted(sorted(self._reference))

    @property
    def reference_points(self) -> int:
        """Number of losses in the reference."""
        return len(self._reference)

    def _threshold(self, progress: float) -> float:
        level = self.level
        mad = median_of_sorted(sorted([abs(value - level) for value in self._reference]))
        return level + max(SPIKE_LEVEL * abs(level), SPIKE_PROGRESS * progress, SPIKE_MADS * mad)

    def _absorb_streak(self) -> None:
        """Add a streak to the reference that has ended or has stayed below the margin for too long."""
        for value in self.streak:
            self._push(value)
        self.streak.clear()

    def _push(self, value: float) -> None:
        reference = self._reference
        evicted = reference[0] if len(reference) == REFERENCE_POINTS else None
        reference.append(value)
        if value >= self._highest:
            self._highest = value
        elif evicted == self._highest:
            self._highest = max(reference)


def exceedance_rules(size: int, planned_points: int) -> list[tuple[int, int]]:
    """Return pairs (m, j): m of the newest `size` losses above the j-th largest of the first `size` is not chance.

    Among 2n exchangeable values the m + j - 1 largest hold h of the first n with hypergeometric probability
    C(n, h) C(n, m + j - 1 - h) / C(2n, m + j - 1); at least m are new if h < j.
    """
    allowed = FALSE_DIVERGENCE_CHANCE * size / max(planned_points, size)
    rules = []
    for share in EXCEEDING_SHARES:
        m = ceil(share * size)
        j = 0
        while j < size and _exceedance_chance(size, m, j + 1) <= allowed:
            j += 1
        if j:
            rules.append((m, j))
    return rules


def _exceedance_chance(n: int, m: int, j: int) -> float:
    top = m + j - 1
    ways = sum(comb(n, h) * comb(n, top - h) for h in range(j) if top - h <= n)
    return ways / comb(2 * n, top)


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The newest losses are far above the first ones."""

    level: float
    """Median of the first losses."""
    first_step: int
    last_step: int
    """Steps of the first losses."""
    threshold: float
    """Level that `exceeding` of the newest `points` losses are above."""
    exceeding: int
    points: int


class DivergenceDetector:
    """Compare the newest losses with the first ones: detects a run that never reached a low level."""

    def __init__(self, planned_points: int) -> None:
        self._planned_points = planned_points
        self._first_step = 0
        self._head: list[float] | None = []
        """The first losses; None once all sizes are covered."""
        self._counters: list[_ExceedanceCounter] = []
        self._lowest_threshold = inf
        self._is_counting = False

    def add(self, step: int, value: float) -> Divergence | None:
        """Add one loss and return whether, and how, the run has diverged."""
        divergence = None
        if self._is_counting or value > self._lowest_threshold:
            self._is_counting = False
            for counter in self._counters:
                if counter.add(value) and divergence is None:
                    divergence = counter.rule
                self._is_counting = self._is_counting or counter.bits > 0
        if self._head is not None:
            self._extend_head(self._head, step, value)
        return divergence

    def _extend_head(self, head: list[float], step: int, value: float) -> None:
        if not head:
            self._first_step = step
        head.append(value)
        size = len(head)
        if size in HEAD_SIZES:
            ordered = sorted(head)
            level = median_of_sorted(ordered)
            raised = level + DIVERGED_SHARE * abs(level)
            self._counters += [
                _ExceedanceCounter(
                    Divergence(
                        level=level,
                        first_step=self._first_step,
                        last_step=step,
                        threshold=max(ordered[-rank], raised),
                        exceeding=exceeding,
                        points=size,
                    )
                )
                for exceeding, rank in exceedance_rules(size, self._planned_points)
            ]
            self._lowest_threshold = min((counter.rule.threshold for counter in self._counters), default=inf)
        if size == HEAD_SIZES[-1]:
            self._head = None


class _ExceedanceCounter:
    """Count how many of the newest losses exceed one threshold."""

    def __init__(self, rule: Divergence) -> None:
        self.rule = rule
        self.bits = 0
        """One bit for each of the newest `points` losses, set if it exceeds the threshold."""
        self._threshold, self._exceeding = rule.threshold, rule.exceeding
        self._mask = (1 << rule.points) - 1

    def add(self, value: float) -> bool:
        self.bits = (self.bits << 1 | (value > self._threshold)) & self._mask
        return self.bits.bit_count() >= self._exceeding


class EarlyDivergenceDetector:
    """Detect losses far above the very first one: a run that diverges at once has no healthy median to compare with."""

    def __init__(self) -> None:
        self.first_step = 0
        """Step of the first loss."""
        self.level = 0.0
        """The first loss."""
        self.lowest = 0.0
        """Lowest loss of the detected streak."""
        self.streak_points = 0
        """Number of losses in the detected streak."""
        self._points_after_first = -1
        self._newest: list[float] = []

    def add(self, step: int, value: float) -> bool:
        """Add one loss and return whether it completes a streak. A first loss of 0 or less has no multiple."""
        self._points_after_first += 1
        if self._points_after_first == 0:
            self.first_step, self.level = step, value
            return False
        if self._points_after_first > EARLY_START_POINTS + EARLY_RULES[0][0] or self.level <= 0:
            return False
        self._newest.append(value)
        for points, multiple in EARLY_RULES:
            lowest = min(self._newest[-points:])
            is_early = self._points_after_first - points < EARLY_START_POINTS
            if is_early and len(self._newest) >= points and lowest > multiple * self.level:
                self.streak_points, self.lowest = points, lowest
                return True
        return False
