"""The verdict on a log: its points are fed to the streaming judge, all at once or as the log grows."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from pytest_smoke.logs.log import Log, Point


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDescription:
    """What the verdict depends on and a log does not say about its run."""

    planned_points: int | None = None
    """Points in the log of the whole run; None if the log is complete."""
    expected_jumps: tuple[int, ...] = ()
    """Steps at which the data or the loss change by design."""
    from_scratch: bool = False
    """Whether training started from random weights."""

    def new_judge(self, points: int) -> CurveJudge:
        """Return a judge for a run of `planned_points`, or of `points` if none are planned."""
        return CurveJudge(
            planned_points=self.planned_points or points,
            expected_jumps=self.expected_jumps,
            from_scratch=self.from_scratch,
        )


def judge_log(log: Log, run: RunDescription) -> CurveVerdict:
    """Judge a complete log. With fewer points than planned, the run counts as one that ended early."""
    judge = run.new_judge(len(log.points))
    for point in log.points:
        if (verdict := _add(judge, point)) is not None:
            return verdict
    return judge.finish(ended_early=run.planned_points is not None and len(log.points) < run.planned_points)


class GrowingLogJudge:
    """Judge a log while it is written. Each point is judged once, unless a resumed run overwrote earlier points."""

    def __init__(self, run: RunDescription) -> None:
        assert run.planned_points is not None, "the judge averages over blocks whose length depends on planned_points"
        self._run, self._planned_points = run, run.planned_points
        self._restart()

    def _restart(self) -> None:
        self._judge = self._run.new_judge(self._planned_points)
        self._judged: list[Point] = []

    def update(self, log: Log) -> CurveVerdict | None:
        """Judge the new points. Return the verdict once the run is unstable or has all planned points, else None."""
        # The newest point is compared too: in a sparse log, a later row may add a column to it.
        if list(log.points[: len(self._judged)]) != self._judged:
            self._restart()
        for point in log.points[len(self._judged) : self._planned_points]:
            self._judged.append(point)
            if (verdict := _add(self._judge, point)) is not None:
                return verdict
        return self._judge.finish() if len(self._judged) == self._planned_points else None

    def end_early(self) -> CurveVerdict:
        """Return the verdict on a log that stopped growing before it had all planned points."""
        return self._judge.finish(ended_early=True)


def _add(judge: CurveJudge, point: Point) -> CurveVerdict | None:
    return judge.add(
        point.step,
        point.loss,
        probe_loss=point.probe_loss,
        lr=point.lr,
        grad_norm=point.grad_norm,
        terms=point.terms or None,
    )
