"""The fixed probe batch as a witness: did the model get worse, or only the data harder?

Where data come unshuffled, the minibatch loss rises with their content. The loss of a fixed batch does not, so a rise
is put off until that batch has been scored again, and dropped if it denies it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

FEWEST_SCORES = 3
"""Scores of the probe batch before it can be asked: with fewer there is no level to compare with."""
SHARED = 0.25
"""A model that got worse is worse on the probe batch by at least this share of the rise. On the labelled runs 0.1, 0.25
and 0.4 give the same verdicts."""
PLAIN = 2.0
"""A rise by this multiple of the level, to three times it, waits for nobody. At 1.0 the content of unshuffled pages
still alarmed; without the exception the p90 of the delay grew from 4.0 to 4.3 % of the window, no verdict changed."""
LONGEST_GAPS = 2
"""A score that is overdue by so many of the longest distance so far is not waited for."""
MOST_SCORES = 512
"""Scores remembered; of more, every other old one is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A reason to stop."""

    reason: str
    text: str
    series: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRise:
    """A rise of the minibatch loss by `rise` from `level`."""

    alarm: Alarm
    step: int
    """When it was seen."""
    good: int
    """Last step before the trouble."""
    first: int
    """First step of the offence."""
    level: float
    rise: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRise:
    """A rise that the probe batch did not share: its loss before and since."""

    step: int
    before: float
    after: float


class RiseConfirmation:
    """Remembers the scores of the probe batch, and is asked about one rise of the minibatch loss at a time."""

    def __init__(self) -> None:
        self.candidate: CandidateRise | None = None
        """What waits for the next score."""
        self.rejected_rises: list[RejectedRise] = []
        """The rises that were denied, in order."""
        self._scores: list[tuple[int, float]] = []
        self._gap = 0
        self._points, self._sum = 0, 0.0

    def add(self, step: int, probe_loss: float) -> None:
        """One score, in order."""
        if self._scores:
            self._gap = max(self._gap, step - self._scores[-1][0])
        self._scores.append((step, probe_loss))
        if len(self._scores) > MOST_SCORES:
            del self._scores[1:-1:2]

    def forget(self) -> None:
        """The probe batch may be another one from here on."""
        self._scores = []

    def needed(self, candidate: CandidateRise) -> bool:
        """Whether the batch is to be asked at all."""
        return len(self._scores) >= FEWEST_SCORES and candidate.rise < PLAIN * abs(candidate.level)

    def check(self, candidate: CandidateRise) -> None:
        """Put `suspicion` before the witness; `verdict` says what becomes of it."""
        self.candidate = candidate
        self._points, self._sum = 0, 0.0

    def follow(self, loss: float) -> None:
        """One more minibatch loss while the answer is awaited."""
        self._points += 1
        self._sum += loss

    def verdict(self, step: int) -> Literal["guilty", "denied", "open"]:
        """What is known at `step`. A rise that was over before the batch was scored again is not denied by it."""
        candidate = self.candidate
        assert candidate is not None
        since = sorted(loss for at, loss in self._scores if at > candidate.first)
        if not since:
            return "guilty" if step - self._scores[-1][0] > LONGEST_GAPS * self._gap else "open"
        good = [loss for at, loss in self._scores if at <= candidate.good] or [self._scores[0][1]]
        before, after = good[-1], since[len(since) // 2]
        over = self._points > 0 and self._sum / self._points <= candidate.level + candidate.rise / 2
        if over or after - before >= SHARED * candidate.rise:
            return "guilty"
        self.rejected_rises.append(RejectedRise(step=candidate.step, before=before, after=after))
        self.candidate = None
        return "denied"
