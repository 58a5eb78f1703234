"""Detectors of spikes and divergence: they compare single losses and need no block means."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil, comb, inf

from pytest_smoke.judge.curve.trend import lost_progress, median_of_sorted

REFERENCE_POINTS = 50
"""Number of earlier losses that a spike must exceed, every one of them."""
MIN_REFERENCE_POINTS = 10
"""Number of losses before which no spike is detected."""
FALSE_SPIKE_CHANCE = 0.002
"""Bound on the chance of one false spike in a whole curve, under exchangeable noise of any distribution."""
SPIKE_LEVEL, SPIKE_PROGRESS, SPIKE_MADS = 0.10, 0.03, 4.0
"""The median of a spike exceeds that of the reference by the largest of: 10 % of it, 3 % of the progress, 4 MAD."""
CORRELATED_SPIKE_MADS = 8.0
"""A streak with fewer points than correlated noise makes in a row must be this high: twice as much as others."""

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

DIVERGED_MULTIPLE = 3.0
"""Losses above this multiple of everything before have diverged: no noise of a loss that is averaged over a batch
reaches it, so few points are needed ..."""
DIVERGED_POINTS = 4
"""... this many in a row, ..."""
DIVERGED_AFTER_POINTS = 2
"""... after at least this many others."""

SWING_MULTIPLE = 30.0
"""A swing multiplies the loss by this: the median of 5 losses reaches it by chance only if their noise is larger than
themselves."""
SWING_POINTS = 5
"""Number of losses whose median swings."""
SWING_TOP_SHARE = 0.1
"""A swing ends above this share of the first level: one that stays far below it is the noise of a converged loss."""
SWINGS = 3
"""Number of swings that make a curve unstable, however short each of them is."""

EARLY_RULES = ((24, 3.0), (8, 10.0), (4, 30.0))
"""(losses in a row, multiple of the first loss that each exceeds): the larger the multiple, the fewer losses.

Of 10,000 simulated flat runs with noise of half the level, 2 (lognormal) or 13 (gamma) met a rule; with noise as large
as the level, 60 or 320 (exponential)."""
SHORT_LOG_RULES = ((1, 8, 3.0), (2, 5, 2.5))
"""(first losses, last losses, multiple of the highest of the first that each of the last exceeds), for a curve that is
too short for any statistics. Its points are mostly means over many steps, so their noise is far below their level."""
EARLY_START_POINTS = 8
"""Points after the first within which an early divergence begins."""


WORSE_SHARE = 0.05
"""Share by which a score of the probe batch exceeds the untrained model's. The same labelled runs have 2 % and 10 %."""
WORSE_POINTS = 4
"""Losses before such a score counts, or 1 % of the planned points: a burst is shorter."""
WORSE_RUN_SHARE = 0.01


def min_spike_points(reference_points: int, planned_points: int) -> int:
    """Return the smallest p with C(reference + p, p) >= planned / FALSE_SPIKE_CHANCE.

    p exchangeable values all exceed `reference_points` others with probability 1 / C(reference + p, p).
    """
    points = 1
    while comb(reference_points + points, points) * FALSE_SPIKE_CHANCE < planned_points:
        points += 1
    return points


class SpikeDetector:
    """Detect p consecutive losses, each above all of the `reference_points` before them, and their median by a margin.

    p follows from `planned_points` (see `min_spike_points`): 5 for a curve of 2,500 points and a reference of 50.
    """

    def __init__(self, planned_points: int, reference_points: int = REFERENCE_POINTS) -> None:
        self.streak: list[float] = []
        """The newest losses, all above the reference."""
        self.step_before = 0
        """Last step before the streak."""
        self.first_step = 0
        """First step of the streak."""
        self.last_step = 0
        """Newest step."""
        self._reference: deque[float] = deque(maxlen=reference_points)
        self._highest = -inf
        sizes = range(MIN_REFERENCE_POINTS, reference_points + 1)
        self._min_points = [min_spike_points(size, planned_points) for size in sizes]

    def add(
        self, step: int, value: float, progress: float, correlation: float = 1.0, *, is_whole_high: bool = False
    ) -> bool:
        """Add one loss and return whether it completes a spike. `progress` is the fall of the loss so far.

        `correlation` is the number of points that are worth one independent point, at least 1. With `is_whole_high`
        the lowest loss of a spike is above the margin, and not only the median.
        """
        reference, streak = self._reference, self.streak
        if value > self._highest and len(reference) >= MIN_REFERENCE_POINTS:
            if not streak:
                self.step_before, self.first_step = self.last_step, step
            streak.append(value)
            self.last_step = step
            min_points = self._min_points[len(reference) - MIN_REFERENCE_POINTS]
            height = min(streak) if is_whole_high else self.height
            if len(streak) >= min_points and self._is_high(height, progress, len(streak) < min_points * correlation):
                return True
            if len(streak) == max(REFERENCE_POINTS, reference.maxlen or 0):
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
    def height(self) -> float:
        """Median of the streak."""
        return median_of_sorted(sorted(self.streak))

    @property
    def reference_points(self) -> int:
        """Number of losses in the reference."""
        return len(self._reference)

    def _is_high(self, value: float, progress: float, is_short: bool) -> bool:
        level = self.level
        mad = median_of_sorted(sorted([abs(value - level) for value in self._reference]))
        mads = CORRELATED_SPIKE_MADS if is_short else SPIKE_MADS
        return value > level + max(
            SPIKE_LEVEL * abs(level), min(SPIKE_PROGRESS * progress, lost_progress(level, progress)), mads * mad
        )

    def _absorb_streak(self) -> None:
        """Add a streak to the reference that has ended or has stayed below the margin for too long."""
        for value in self.streak:
            self._push(value)
        self.streak.clear()

    def _push(self, value: float) -> None:
        reference = self._reference
        evicted = reference[0] if len(reference) == reference.maxlen else None
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
class AboveStart:
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


class AboveStartDetector:
    """Compare the newest losses with the first ones: detects a run that never reached a low level."""

    def __init__(self, planned_points: int) -> None:
        self._planned_points = planned_points
        self._first_step = 0
        self._head: list[float] | None = []
        """The first losses; None once all sizes are covered."""
        self._counters: list[_ExceedanceCounter] = []
        self._lowest_threshold = inf
        self._is_counting = False

    def add(self, step: int, value: float, points_per_independent: float = 1.0) -> AboveStart | None:
        """Add one loss and return whether, and how, the newest losses exceed the first ones.

        Of correlated points, only comparisons of as many as hold `HEAD_SIZES[0]` independent ones count.
        """
        divergence = None
        if self._is_counting or value > self._lowest_threshold:
            self._is_counting = False
            for counter in self._counters:
                if counter.add(value) and counter.rule.points >= HEAD_SIZES[0] * points_per_independent:
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
                    AboveStart(
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

    def __init__(self, rule: AboveStart) -> None:
        self.rule = rule
        self.bits = 0
        """One bit for each of the newest `points` losses, set if it exceeds the threshold."""
        self._threshold, self._exceeding = rule.threshold, rule.exceeding
        self._mask = (1 << rule.points) - 1

    def add(self, value: float) -> bool:
        self.bits = (self.bits << 1 | (value > self._threshold)) & self._mask
        return self.bits.bit_count() >= self._exceeding


class DivergenceDetector:
    """Detect losses far above every loss before them; a level of 0 or less has no multiple."""

    def __init__(self) -> None:
        self.highest = -inf
        """Highest loss before the streak."""
        self.points_before = 0
        """Number of losses before the streak."""
        self.step_before = 0
        """Last step before the streak."""
        self.first_step = 0
        """First step of the streak."""
        self.streak: list[float] = []
        """The newest losses, each above the multiple."""
        self._last_step = 0

    def add(self, step: int, value: float) -> bool:
        """Add one loss and return whether the streak is long enough."""
        if value > DIVERGED_MULTIPLE * self.highest > 0:
            if not self.streak:
                self.step_before, self.first_step = self._last_step, step
            self.streak.append(value)
        else:
            if self.streak:
                self.points_before += len(self.streak)
                self.highest = max(self.streak)
                self.streak = []
            self.highest = max(self.highest, value)
            self.points_before += 1
        self._last_step = step
        return self._is_long(DIVERGED_POINTS)

    def ends_high(self) -> bool:
        """Return whether the curve ends within a streak: what comes next cannot be known, so one point is enough."""
        return self._is_long(1)

    def _is_long(self, points: int) -> bool:
        return len(self.streak) >= points and self.points_before >= DIVERGED_AFTER_POINTS


class SwingDetector:
    """Detect a loss that falls and rises by decades again and again: its noise hides every single rise."""

    def __init__(self) -> None:
        self.swings = 0
        """Number of swings up."""
        self.low = inf
        """Lowest median of the newest swing, before it."""
        self.low_step = 0
        self.high = 0.0
        """Median at which the newest swing was counted."""
        self._first: float | None = None
        self._newest: deque[float] = deque(maxlen=SWING_POINTS)
        self._top = -inf
        self._lowest, self._lowest_step = inf, 0

    def add(self, step: int, value: float) -> bool:
        """Add one loss and return whether it completes the last swing that is needed. Only positive losses swing."""
        newest = self._newest
        newest.append(value)
        if len(newest) < SWING_POINTS:
            return False
        level = median_of_sorted(sorted(newest))
        if self._first is None:
            self._first = level
        if level < self._lowest:
            self._lowest, self._lowest_step = level, step
        if level <= SWING_MULTIPLE * self._lowest or level <= SWING_TOP_SHARE * self._first or self._lowest <= 0:
            return False
        self.swings += 1
        self.low, self.low_step, self.high = self._lowest, self._lowest_step, level
        self._lowest, self._lowest_step = level, step
        return self.swings >= SWINGS


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
        self._highest = [0.0] * len(SHORT_LOG_RULES)
        self._above = [0] * len(SHORT_LOG_RULES)
        self._lowest_above = [inf] * len(SHORT_LOG_RULES)

    def add(self, step: int, value: float) -> bool:
        """Add one loss and return whether it completes a streak. A first loss of 0 or less has no multiple."""
        self._points_after_first += 1
        self._count_above(value)
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

    def ends_high(self) -> bool:
        """Return whether a short curve ends far above its first losses."""
        for (_, last, _), points, lowest in zip(SHORT_LOG_RULES, self._above, self._lowest_above, strict=True):
            if points >= last and self.level > 0:
                self.streak_points, self.lowest = points, lowest
                return True
        return False

    def _count_above(self, value: float) -> None:
        """Count, for each rule, the newest losses in a row that exceed the multiple of the first ones."""
        for index, (first, _, multiple) in enumerate(SHORT_LOG_RULES):
            if self._points_after_first < first:
                self._highest[index] = max(self._highest[index], value)
            elif value > multiple * self._highest[index]:
                self._above[index] += 1
                self._lowest_above[index] = min(self._lowest_above[index], value)
            else:
                self._above[index], self._lowest_above[index] = 0, inf


class WorseThanUntrainedDetector:
    """Detect a run that the first updates made worse: the loss on the probe batch is above that of the untrained model.

    Most losses since then are above the first loss and the first score, too: it is not this batch alone.
    """

    def __init__(self, planned_points: int) -> None:
        self.first_step = 0
        """Step of the first loss."""
        self.first_score = 0.0
        """Loss on the probe batch before the first update."""
        self.points = 0
        """Number of losses after the first."""
        self.points_above = 0
        """Those of them above the first loss and the first score."""
        self._min_points = max(WORSE_POINTS, WORSE_RUN_SHARE * planned_points)
        self._level: float | None = None
        self._has_begun = False

    def add(self, step: int, loss: float, score: float | None) -> bool:
        """Add one loss, and the score before its step if there is one; return whether it shows that the run is worse.

        Without a score at the first loss, or with one that is not positive, nothing is detected.
        """
        if not self._has_begun:
            self._has_begun = True
            if score is not None and score > 0:
                self.first_step, self.first_score, self._level = step, score, max(loss, score)
            return False
        if self._level is None:
            return False
        is_worse = (
            score is not None
            and score > (1 + WORSE_SHARE) * self.first_score
            and self.points >= self._min_points
            and self.points_above > self.points / 2
        )
        self.points += 1
        self.points_above += loss > self._level
        return is_worse
