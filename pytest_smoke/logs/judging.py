"""The verdict on a log: its points are fed to the streaming judge, all at once or as the log grows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pytest_smoke.errors import LogError
from pytest_smoke.files import read_failure
from pytest_smoke.judge.curve.curve_judge import CurveJudge, CurveVerdict
from pytest_smoke.logs.log import Log, Point
from pytest_smoke.text import count, listed, verdict_label

_RUNS_LISTED = 20
"""Runs of one file whose verdicts are listed before they are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDescription:
    """What the verdict depends on and a log does not say about its run."""

    planned_points: int | None = None
    """Points in the log of the whole run; None if the log is complete."""
    expected_jumps: tuple[int, ...] = ()
    """Steps at which the data or the loss change by design."""
    from_scratch: bool = False
    """Whether training started from random weights."""
    ignores_learning_rate: bool = False
    """Whether the loss alone decides, whatever the learning rate did."""

    def new_judge(self, points: int) -> CurveJudge:
        """Return a judge for a run of `planned_points`, or of `points` if none are planned."""
        return CurveJudge(
            planned_points=self.planned_points or points,
            expected_jumps=self.expected_jumps,
            from_scratch=self.from_scratch,
        )


NO_RATE = "no learning rate column"
"""Beginning of the note of a curve that was judged without a learning rate."""
RATE_IGNORED = "--ignore-lr: judged by the loss alone"
"""Note of a log whose learning rate was not looked at."""
HOW_TO_IGNORE_RATE = "for a verdict on the loss alone, add --ignore-lr"
"""Note of a log that is masked by its learning rate."""
_WORST_FIRST = ("unstable", "invalid", "hold", "inconclusive", "promote")


@contextmanager
def refusing_as_log_errors() -> Iterator[None]:
    """Turn whatever goes wrong with one log into a LogError, so that other logs can still be judged."""
    try:
        yield
    except LogError:
        raise
    except OSError as error:
        raise LogError("unreadable", read_failure(error)) from None
    except MemoryError:
        raise LogError("unreadable", "not enough memory to read the log") from None
    except Exception as error:
        text = f"the reader failed with {type(error).__name__}: {error}; please report it"
        raise LogError("internal-error", text) from error


def judge_log(log: Log, run: RunDescription) -> CurveVerdict:
    """Judge a complete log. With fewer points than planned, the run counts as one that ended early."""
    if not log.points:
        return _judge_outside_points(log, None)
    judge = run.new_judge(len(log.points))
    verdict = next((found for point in log.points if (found := _add(judge, point, run)) is not None), None)
    if verdict is None:
        ended_early = run.planned_points is not None and len(log.points) < run.planned_points
        verdict = judge.finish(ended_early=ended_early)
    return _judge_outside_points(log, verdict, ignores_rate=run.ignores_learning_rate)


def judge_logs(logs: Sequence[Log], run: RunDescription) -> tuple[Log, CurveVerdict]:
    """Judge the runs of one file. Return the run with the worst verdict; the notes tell the verdicts of all."""
    if len(logs) == 1:
        return logs[0], judge_log(logs[0], run)
    verdicts = [judge_log(log, run) for log in logs]
    worst = min(range(len(logs)), key=lambda at: _WORST_FIRST.index(verdicts[at].verdict))
    shown = [f"{log.run} {verdict_label(one.verdict, one.reason)}" for log, one in zip(logs, verdicts, strict=True)]
    text = f"{logs[worst].run}: {verdicts[worst].text}"
    note = f"the verdict is the worst of {count(len(logs), 'run')}: {listed(shown, limit=_RUNS_LISTED)}"
    return logs[worst], replace(verdicts[worst], text=text, notes=(*verdicts[worst].notes, note))


def _judge_outside_points(log: Log, verdict: CurveVerdict | None, *, ignores_rate: bool = False) -> CurveVerdict:
    """Let a NaN outside the points decide, unless the curve was unstable before it; drop a false note on the rate."""
    found = log.non_finite
    if verdict is not None and log.lr_column is not None:
        verdict = replace(verdict, notes=tuple(note for note in verdict.notes if not note.startswith(NO_RATE)))
        note = RATE_IGNORED if ignores_rate else HOW_TO_IGNORE_RATE if verdict.reason == "masked" else ""
        verdict = replace(verdict, notes=(*verdict.notes, note) if note else verdict.notes)
    if found is None or (
        verdict is not None and verdict.verdict == "unstable" and _is_before(verdict.step, found.step)
    ):
        assert verdict is not None
        return verdict
    return CurveVerdict(
        verdict="unstable",
        reason="non-finite",
        step=found.step,
        text=found.text,
        series=found.series,
        points=verdict.points if verdict else 0,
        notes=verdict.notes if verdict else (),
        data=verdict.data if verdict else {},
    )


def _is_before(step: int | None, other: int | None) -> bool:
    return step is None or other is None or step <= other


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
            if (verdict := _add(self._judge, point, self._run)) is not None:
                return verdict
        return self._judge.finish() if len(self._judged) == self._planned_points else None

    def decided_outside(self, log: Log) -> CurveVerdict | None:
        """Return the verdict that a NaN outside the points decides, if there is one."""
        return _judge_outside_points(log, None) if log.non_finite is not None else None

    def end_early(self) -> CurveVerdict:
        """Return the verdict on a log that stopped growing before it had all planned points."""
        return self._judge.finish(ended_early=True)


def _add(judge: CurveJudge, point: Point, run: RunDescription) -> CurveVerdict | None:
    return judge.add(
        point.step,
        point.loss,
        probe_loss=point.probe_loss,
        lr=None if run.ignores_learning_rate else point.lr,
        grad_norm=point.grad_norm,
        terms=point.terms or None,
    )
