"""The fixed probe batch: its loss as a second series, and as the confirmation of a rise of the training loss.

If the data are not shuffled, the training loss rises whenever they get harder; the loss of a fixed batch does not. So a
rise of the training loss is a candidate until the probe batch is scored again, and is rejected if its score has not
risen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_smoke.judge.curve.trend import MinimumRise, Rise, Trend

BLOCKS = 400
"""A fixed batch has no sampling noise, so each score is a block of its own until there are more than 400."""
SPANS = (3, 6, 12, 24)
"""Lengths of the spans in scores; single scores rise above the rest in healthy runs too ..."""
LASTING_BLOCKS = 2
"""... and one score alone, however high, is not a rise."""
MIN_SIGMAS = 5.0
"""The remaining noise of a fixed batch is slow wandering, which differences of neighbours underestimate."""
MINIMUM_RISE = MinimumRise(level=0.10, progress=0.05, doubled=0.05)
"""Five times that of the training loss: the probe loss of a healthy run wanders by a few times the latter."""

MIN_SCORES = 3
"""Scores of the probe batch before it can confirm a rise: fewer give no level to compare with."""
SHARED_RISE = 0.25
"""A rise is confirmed if the probe loss rises by at least this share of it. On the labelled runs, 0.1, 0.25 and 0.4
give the same verdicts."""
OBVIOUS_RISE = 2.0
"""A rise by this multiple of the level, to three times the level, needs no confirmation. At 1.0 the content of
unshuffled pages still raised alarms. Without the exception the 90th percentile of the delay grew from 4.0 to 4.3 % of
the curve and no verdict changed."""
MAX_OVERDUE_INTERVALS = 2
"""A score that is overdue by more than this many of the longest interval so far is not waited for."""
MAX_SCORES = 512
"""Scores kept in memory; beyond that, every other old one is dropped."""


class ProbeTrend:
    """A trend of the probe loss; it starts at the second score, which shows how often the batch is scored."""

    def __init__(self, planned_points: int) -> None:
        self.trend: Trend | None = None
        """None before the second score."""
        self._planned_points = planned_points
        self._first_score: tuple[int, int, float] | None = None

    def add(self, point: int, step: int, probe_loss: float) -> Rise | None:
        """Add the score at the curve's `point`-th point, counted from 1."""
        if self._first_score is None:
            self._first_score = (point, step, probe_loss)
            return None
        if self.trend is None:
            first_point, first_step, first_loss = self._first_score
            self.trend = Trend(
                max(1, self._planned_points // (point - first_point)),
                blocks=BLOCKS,
                min_block_points=1,
                spans=SPANS,
                minimum_rise=MINIMUM_RISE,
                min_sigmas=MIN_SIGMAS,
                lasting_blocks=LASTING_BLOCKS,
            )
            self.trend.add(first_step, first_loss)
        return self.trend.add(step, probe_loss)

    def start_segment(self, last_step: int) -> Rise | None:
        """Compare no levels across the end of `last_step`; return the rise that the ended segment still shows."""
        if self.trend is None:
            self._first_score = None  # a single score may belong to another probe batch
            return None
        return self.trend.start_segment(last_step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """What makes a curve unstable."""

    reason: str
    text: str
    series: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRise:
    """A rise of the training loss by `rise` from `level`, before the probe batch has confirmed it."""

    alarm: Alarm
    """What to report if it is confirmed."""
    step: int
    """Step at which it was detected."""
    last_good_step: int
    """Last step before the rise."""
    first_step: int
    """First step of the high span."""
    level: float
    rise: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRise:
    """A rise of the training loss that the probe batch did not share."""

    step: int
    """Step at which the rise was detected."""
    before: float
    """Probe loss before the rise."""
    after: float
    """Probe loss since the rise."""


class RiseConfirmation:
    """Confirm or reject rises of the training loss, one at a time, by the scores of the probe batch."""

    def __init__(self) -> None:
        self.candidate: CandidateRise | None = None
        """The rise that waits for the next score."""
        self.rejected_rises: list[RejectedRise] = []
        """In order of detection."""
        self._scores: list[tuple[int, float]] = []
        self._longest_interval = 0
        self._losses_since, self._loss_sum = 0, 0.0

    def add_score(self, step: int, probe_loss: float) -> None:
        """Add one score of the probe batch."""
        if self._scores:
            self._longest_interval = max(self._longest_interval, step - self._scores[-1][0])
        self._scores.append((step, probe_loss))
        if len(self._scores) > MAX_SCORES:
            del self._scores[1:-1:2]

    def add_loss(self, loss: float) -> None:
        """Add one training loss while the candidate waits for a score."""
        self._losses_since += 1
        self._loss_sum += loss

    def forget_scores(self) -> None:
        """Drop all scores: the probe batch may be another one from here on."""
        self._scores = []

    def can_check(self, candidate: CandidateRise) -> bool:
        """Return whether the probe batch has enough scores and the rise is small enough to need a confirmation."""
        return len(self._scores) >= MIN_SCORES and candidate.rise < OBVIOUS_RISE * abs(candidate.level)

    def check(self, candidate: CandidateRise) -> None:
        """Make `candidate` the rise that `decide` decides on."""
        self.candidate = candidate
        self._losses_since, self._loss_sum = 0, 0.0

    def decide(self, step: int) -> Literal["confirmed", "rejected", "pending"]:
        """Decide on the candidate with the scores up to `step`.

        A rise that was over before the batch was scored again is confirmed, since the score says nothing about it.
        """
        candidate = self.candidate
        assert candidate is not None
        since = sorted(score for at, score in self._scores if at > candidate.first_step)
        if not since:
            is_overdue = step - self._scores[-1][0] > MAX_OVERDUE_INTERVALS * self._longest_interval
            return "confirmed" if is_overdue else "pending"
        good = [score for at, score in self._scores if at <= candidate.last_good_step] or [self._scores[0][1]]
        before, after = good[-1], since[len(since) // 2]
        halfway = candidate.level + candidate.rise / 2
        is_over = self._losses_since > 0 and self._loss_sum / self._losses_since <= halfway
        if is_over or after - before >= SHARED_RISE * candidate.rise:
            return "confirmed"
        self.rejected_rises.append(RejectedRise(step=candidate.step, before=before, after=after))
        self.candidate = None
        return "rejected"
