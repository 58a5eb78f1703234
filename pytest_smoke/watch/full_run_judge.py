"""The judge of a full run: its length may be unknown, and what happened before the watch began may be over."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, nan
from statistics import median

from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from pytest_smoke.logs.log import Point

ASSUMED_POINTS = 1000
"""Planned points of a run whose length is unknown, until it has more; then twice as many, and so on. 1,000 points have
blocks of 8. A shorter assumption calls the noise of a long run's first points a rise, a longer one sees a rise late."""
NEWEST_POINTS = 5
"""Newest losses whose median tells whether an earlier rise is over: one loss alone is noise."""
OVER_POINTS = 20
"""A verdict on a step this many points back, or ..."""
OVER_SHARE = 0.01
"""... this share of the points so far, is checked: the run may have recovered. The loss after a newer one is too
short to tell."""


class FullRunJudge:
    """Judge the growing curve of a full run by its loss alone: its learning rate decays by design.

    `planned_points` is the length of the run in points of its log, None if it is unknown. `expected_jumps` are the
    steps at which the loss changes by design.
    """

    def __init__(self, planned_points: int | None, expected_jumps: Sequence[int] = ()) -> None:
        self._planned_points, self._expected_jumps = planned_points, tuple(expected_jumps)
        self.recovered: list[CurveVerdict] = []
        """Verdicts on earlier steps, after which the loss came back."""
        self._judged: list[Point] = []
        self._verdict: CurveVerdict | None = None
        self._skip(0)

    @property
    def points(self) -> int:
        """Number of points so far."""
        return len(self._judged)

    def update(self, points: Sequence[Point], *, history: int = 0) -> CurveVerdict | None:
        """Judge the points that are new. Return an `unstable` verdict, and the same one from then on, or None.

        `points` are all points of the log; the first `history` of them are of an earlier run and are not judged. Points
        that differ from those of the last call, as those of a resumed run, are judged again.
        """
        found = list(points)
        if not _are_equal(found[: len(self._judged)], self._judged) or self._start < history:
            self._judged = []
            self._skip(history)
        while self._verdict is None and len(self._judged) < len(found):
            self._judged.append(found[len(self._judged)])
            verdict = self._judge_newest() if len(self._judged) > self._start else None
            if verdict is not None and is_over(verdict, found[self._start :]):
                self.recovered.append(verdict)
                self._skip(len(self._judged))
            else:
                self._verdict = verdict
        return self._verdict

    def _skip(self, points: int) -> None:
        """Start a new curve after the first `points`."""
        self._start = points
        self._new_judge(self._planned_points or ASSUMED_POINTS)

    def _new_judge(self, planned_points: int) -> None:
        self._length = planned_points
        self._judge = CurveJudge(planned_points=planned_points, expected_jumps=self._expected_jumps)

    def _judge_newest(self) -> CurveVerdict | None:
        """Feed the newest point; if the run is longer than assumed, assume twice the length and feed all points."""
        curve = self._judged[-1:]
        if len(self._judged) - self._start > self._length:
            self._new_judge(2 * self._length)
            curve = self._judged[self._start :]
        verdicts = (
            self._judge.add(
                one.step, one.loss, probe_loss=one.probe_loss, grad_norm=one.grad_norm, terms=one.terms or None
            )
            for one in curve
        )
        return next((verdict for verdict in verdicts if verdict is not None), None)


def _are_equal(one: list[Point], other: list[Point]) -> bool:
    return one == other or repr(one) == repr(other)  # NaN is not equal to itself


def is_over(verdict: CurveVerdict, points: Sequence[Point]) -> bool:
    """Whether the loss came back after the step of an `unstable` verdict: at least halfway to where it was before.

    A verdict on one of the newest points is not over.
    """
    if verdict.step is None:
        return False
    after = [point.loss for point in points if point.step > verdict.step]
    if len(after) < max(OVER_POINTS, OVER_SHARE * len(points)):
        return False
    newest = median_loss(after[-NEWEST_POINTS:])
    if verdict.reason == "non-finite":
        return isfinite(newest)
    good = verdict.data.get("last_good_step")
    before = [point.loss for point in points if point.step <= (verdict.step if good is None else good)]
    high = [point.loss for point in points if point.step <= verdict.step]
    low_span, high_span = verdict.data.get("low_span"), verdict.data.get("high_span")
    low = low_span[2] if low_span else median_loss(before[-NEWEST_POINTS:])
    top = high_span[2] if high_span else median_loss(high[-NEWEST_POINTS:])
    return newest <= low + (top - low) / 2  # false if one of them is NaN


def median_loss(losses: Sequence[float]) -> float:
    """Return the median of losses; NaN if there are none or one of them is NaN."""
    return nan if not losses or any(loss != loss for loss in losses) else median(losses)
