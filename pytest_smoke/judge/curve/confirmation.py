"""What becomes of a rise once a detector has seen it: confirmed, rejected by the probe batch, or recovered.

A rise of the training loss has one of three causes. The model got worse: the loss stays high, and so does that of the
probe batch. The data got harder (an epoch that is not shuffled): the probe batch does not share the rise. Or a bad
batch threw the model off for a moment, and it recovered: what counts is what a burst leaves behind. So every rise is a
candidate until it has lasted, and until the probe batch has been scored again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from typing import Any, Literal

from pytest_smoke.judge.curve.trend import MAD_TO_SD, WEAK_SIGMAS, median_of_sorted

BURST_SHARE = 0.01
"""A loss that is back after this share of the planned points was a burst: nobody who sees the whole curve would stop
the run for it."""
ALL_BURSTS_SHARE = 0.05
"""Bursts that last this share of the planned points in total are no accident."""
NEWEST_POINTS = 5
"""Newest losses whose median tells whether the loss is still high."""
MIN_SCORES = 3
"""Scores of the probe batch before it can confirm a rise: fewer give no level to compare with."""
SHARED_RISE = 0.25
"""A rise is confirmed if the probe loss rises by at least this share of it."""
PROBE_RISE = 0.10
"""It is also confirmed if the probe loss rises by this share of its level, which alone is a rise of the probe loss."""
WEAK_SHARED_RISE = 0.5
"""A weak rise is confirmed if the probe loss rises by this share of it, twice as much as of others, ..."""
SCORES_BEFORE, SCORES_SINCE = 3, 5
"""... as means of the last scores before it, and of the newest ones since, ..."""
NOISE_SCORES = 24
"""... by `WEAK_SIGMAS` standard deviations of its noise, estimated from the newest scores, ..."""
MIN_NOISE_SCORES = 7
"""... of which there are at least so many."""
MAX_OVERDUE_INTERVALS = 2
"""A score that is overdue by more than this many of the longest interval so far is not waited for."""
MAX_SCORES = 512
"""Scores kept in memory; beyond that, every other old one is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """What makes a curve unstable."""

    reason: str
    text: str
    series: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRise:
    """A rise of the training loss by `rise` from `level`, before it is confirmed."""

    alarm: Alarm
    """What to report if it is confirmed."""
    step: int
    """Step at which it was detected."""
    last_good_step: int
    """Last step before the rise."""
    first_step: int
    """First step of the high span."""
    points: int
    """Points that were certainly high so far."""
    level: float
    rise: float

    @property
    def halfway(self) -> float:
        """The loss above which the rise has not recovered."""
        return self.level + self.rise / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRise:
    """A rise of the training loss that the probe batch did not share."""

    step: int
    """Step at which the rise was detected."""
    before: float
    """Probe loss before the rise."""
    after: float
    """Probe loss since the rise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """A rise of the training loss that was over soon."""

    first_step: int
    points: int
    level: float
    """Level before it."""
    height: float
    """Level of its high span."""

    @property
    def rise(self) -> float:
        """Its height above the level before it."""
        return self.height - self.level


class RiseConfirmation:
    """Confirm rises of the training loss, one at a time, or dismiss them."""

    def __init__(self, planned_points: int) -> None:
        self.candidate: CandidateRise | None = None
        """The rise that is not decided yet."""
        self.rejected_rises: list[RejectedRise] = []
        """Rises that the probe batch did not share, in order of detection."""
        self.bursts: list[Burst] = []
        """Rises that recovered, in order of detection."""
        self._burst_points = BURST_SHARE * planned_points
        self._all_bursts_points = ALL_BURSTS_SHARE * planned_points
        self._points_in_bursts = 0
        self._newest: deque[float] = deque(maxlen=NEWEST_POINTS)
        self._waited_points = 0
        self._scores: list[tuple[int, float]] = []
        self._longest_interval = 0
        self._rejected_at: int | None = None
        """Step of the score that rejected the last candidate."""

    def add_score(self, step: int, probe_loss: float) -> None:
        """Add one score of the probe batch."""
        if self._scores:
            self._longest_interval = max(self._longest_interval, step - self._scores[-1][0])
        self._scores.append((step, probe_loss))
        if len(self._scores) > MAX_SCORES:
            del self._scores[1:-1:2]

    def add_loss(self, loss: float) -> None:
        """Add one training loss."""
        self._newest.append(loss)
        self._waited_points += 1

    def forget_scores(self) -> None:
        """Drop all scores: the probe batch may be another one from here on."""
        self._scores = []
        self._rejected_at = None

    def start_segment(self) -> None:
        """Drop what is not decided: the data or the loss change here."""
        self._newest.clear()

    def accepts(self, candidate: CandidateRise) -> bool:
        """Make `candidate` the rise that `decide` decides on; return False if it must wait or is over already.

        After a rejection, the probe batch has nothing new to say before its next score.
        """
        if self._rejected_at is not None and self._scores and self._scores[-1][0] <= self._rejected_at:
            return False
        if not self._has_lasted(candidate.points) and not self._is_high(candidate):
            return False
        self.candidate = candidate
        self._waited_points = 0
        return True

    def decide(self, step: int) -> Literal["confirmed", "rejected", "recovered", "pending"]:
        """Decide on the candidate with all losses and scores up to `step`."""
        candidate = self.candidate
        assert candidate is not None
        answer = self._ask_probe_batch(candidate, step)
        if answer != "silent":
            return answer
        if self._has_lasted(candidate.points):
            return "confirmed"
        points = candidate.points + self._waited_points
        if not self._is_high(candidate):
            return self._recover(candidate, points)
        return "confirmed" if self._has_lasted(points) else "pending"

    def shared_weak_rise(self, candidate: CandidateRise) -> tuple[float, float] | None:
        """Return the level of the probe loss before and since a weak rise if it shows the rise as well, else None."""
        before = [score for at, score in self._scores if at <= candidate.last_good_step][-SCORES_BEFORE:]
        since = [score for at, score in self._scores if at > candidate.first_step][-SCORES_SINCE:]
        newest = [score for _, score in self._scores[-NOISE_SCORES:]]
        if len(newest) < MIN_NOISE_SCORES or not before or not since:
            return None
        low, high = sum(before) / len(before), sum(since) / len(since)
        differences = sorted([abs(new - old) for old, new in pairwise(newest)])
        noise = MAD_TO_SD * median_of_sorted(differences) / sqrt(2) * sqrt(1 / len(before) + 1 / len(since))
        is_shared = high - low >= WEAK_SHARED_RISE * candidate.rise and high - low > WEAK_SIGMAS * noise
        return (low, high) if is_shared else None

    def _has_lasted(self, points: int) -> bool:
        return points >= self._burst_points

    def _is_high(self, candidate: CandidateRise) -> bool:
        return median_of_sorted(sorted(self._newest)) > candidate.halfway

    def _recover(self, candidate: CandidateRise, points: int) -> Literal["confirmed", "recovered"]:
        self._points_in_bursts += points
        if self._points_in_bursts > self._all_bursts_points:
            return "confirmed"
        self.bursts.append(
            Burst(
                first_step=candidate.first_step,
                points=points,
                level=candidate.level,
                height=candidate.level + candidate.rise,
            )
        )
        self.candidate = None
        return "recovered"

    def _ask_probe_batch(
        self, candidate: CandidateRise, step: int
    ) -> Literal["confirmed", "rejected", "pending", "silent"]:
        """Ask whether the probe batch shares the rise.

        It is `silent` if it has too few scores, or was not scored while the loss was high.
        """
        good = [score for at, score in self._scores if at <= candidate.last_good_step]
        if len(self._scores) < MIN_SCORES or not good:
            return "silent"
        since = [score for at, score in self._scores if at > candidate.first_step]
        if not since:
            is_overdue = step - self._scores[-1][0] > MAX_OVERDUE_INTERVALS * self._longest_interval
            return "silent" if is_overdue or not self._is_high(candidate) else "pending"
        if not self._has_lasted(candidate.points) and not self._is_high(candidate):
            return "silent"  # the score says nothing about a rise that was over before
        before, after = good[-1], since[-1]
        if self._shares(candidate, before, after):
            return "confirmed"
        self._reject(candidate, before, after)
        return "rejected"

    def _shares(self, candidate: CandidateRise, before: float, after: float) -> bool:
        """Return whether the probe loss rose by a large share of the rise, in units of the loss or of its level."""
        change = after - before
        if change >= SHARED_RISE * candidate.rise:
            return True
        if before <= 0 or candidate.level <= 0:
            return False
        return change / before >= min(PROBE_RISE, SHARED_RISE * candidate.rise / candidate.level)

    def _reject(self, candidate: CandidateRise, before: float, after: float) -> None:
        rejected = self.rejected_rises
        if self._rejected_at is None or candidate.first_step > self._rejected_at or not rejected:
            rejected.append(RejectedRise(step=candidate.step, before=before, after=after))
        self._rejected_at = self._scores[-1][0]
        self.candidate = None
