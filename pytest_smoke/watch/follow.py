"""Follow a log that grows, appears late, is replaced or truncated, and judge what it holds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pytest_smoke.errors import LogError
from pytest_smoke.files import read_failure
from pytest_smoke.judge.curve.curve_judge import CurveVerdict
from pytest_smoke.logs import find, tensorboard
from pytest_smoke.logs.judging import GrowingLogJudge, RunDescription
from pytest_smoke.logs.log import ColumnNames, Log, Point
from pytest_smoke.logs.read import read_all, read_text
from pytest_smoke.logs.source import is_regular, open_source, whole_lines
from pytest_smoke.text import count
from pytest_smoke.watch.full_run_judge import FullRunJudge

WAITED_SECONDS = 60.0
"""A log that does not exist, or has no loss, is reported after so many seconds: some trainers load data for long."""
NEWEST_FINITE = 20
"""Finite losses after a NaN in another column, from which on the run counts as recovered."""
MAX_SEARCHED = 20_000
"""Files and folders among which a log of the same name is looked for."""
WHOLE_TEXT_BYTES = 1 << 26
"""A log up to this size is read without its last line, which may be half written; a larger one is read in a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedLog:
    """Which log to follow, and what is known about it."""

    path: str
    """File, or folder with logs, of which the one that changed last is followed."""
    shown: str
    """What messages call it: its path, or `the output`."""
    names: ColumnNames = field(default_factory=ColumnNames)
    planned_points: int | None = None
    """Points in the log of the whole run; None if unknown."""
    expected_jumps: tuple[int, ...] = ()
    """Steps at which the loss changes by design."""
    is_new_run: bool = True
    """Whether the run starts now: what the log holds already is of an earlier one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unstable:
    """The run is unstable."""

    reason: str
    step: int | None
    text: str
    last_good_step: int | None
    counts_steps: bool
    """Whether the steps are those of the trainer; if not, the points of the log are numbered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What was seen until now."""

    points: int
    loss_column: str
    problem: str
    """Why the log could not be read at the last try; empty if it could."""


class LogFollower:
    """Read a log again and again; judge its new points. No problem with the log is an error: `notices` tell it."""

    def __init__(self, log: WatchedLog) -> None:
        self._log = log
        self._judge = FullRunJudge(log.planned_points, log.expected_jumps)
        self._started = time.monotonic()
        self._started_at = time.time()
        self._state: tuple[int, ...] | None = None
        self._identity: tuple[int, int] | None = None
        """Inode and size of the file that was read last."""
        self._earlier: list[Point] = []
        """Points of the files that the current one has replaced."""
        self._newest: list[Point] = []
        """Points of the current file."""
        self._history: list[Point] = []
        """Points of an earlier run at the beginning of the file."""
        self._old_state = _state(log.path) if log.is_new_run else None
        """The file as an earlier run left it; None if there is none, or nothing is known of an earlier run."""
        self._recovered = 0
        self._told: set[str] = set()
        """Reasons that were told."""
        self._problem, self._reason, self._problem_since = "", "", self._started
        """Why the log could not be read at the last try; empty if it could."""
        self._missing = ""
        self._column = ""
        if self._old_state is not None and not os.path.isdir(log.path):
            self._history = self._read_history()

    def watched(self) -> Watched:
        """Return what was seen so far."""
        points = max(self._judge.points - len(self._history), 0)
        return Watched(points=points, loss_column=self._column, problem=self._problem)

    def update(self, *, is_last: bool = False) -> Unstable | None:
        """Read the log if it has changed; return that the run is unstable as soon as it is."""
        path = self._path()
        state = _state(path) if path is not None else None
        if path is None or state is None:
            self._fail("no-log", self._missing or f"no log at {self._log.shown}")
            return None
        if not is_last and state == self._state:
            return None
        if state == self._old_state:
            self._fail("no-log", f"{self._log.shown} has not changed since the run began")
            return None
        self._state = state
        try:
            log = self._read(path, is_last=is_last)
        except LogError as error:
            is_empty = error.reason == "empty"
            self._fail(error.reason, f"{self._log.shown} is empty" if is_empty else f"{self._log.shown}: {error}")
            return None
        except OSError as error:
            self._fail("unreadable", f"{self._log.shown}: {read_failure(error)}")
            return None
        self._problem = ""
        self._column = log.loss_column or self._column
        return self._judged(log, state, is_single_file=path == self._log.path)

    def notices(self) -> Iterator[str]:
        """Yield what is worth a line and was not said yet."""
        for verdict in self._judge.recovered[self._recovered :]:
            yield f"the loss was unstable at step {verdict.step} and recovered: {verdict.text}"
        self._recovered = len(self._judge.recovered)
        is_old = time.monotonic() - self._problem_since >= WAITED_SECONDS
        if self._problem and is_old and self._reason not in self._told:
            self._told.add(self._reason)
            when = "not watched any more" if self._judge.points else "not watched yet"
            yield f"{when}: {self._problem}{self._elsewhere()}"

    def _fail(self, reason: str, text: str) -> None:
        """Remember why the log cannot be judged now."""
        if not self._problem:
            self._problem_since = time.monotonic()
        self._reason, self._problem = reason, text

    def _judged(self, log: Log, state: tuple[int, ...], *, is_single_file: bool) -> Unstable | None:
        points = list(log.points)
        identity = (state[1], state[0])
        if is_single_file and self._identity is not None and self._was_replaced(identity):
            self._earlier = _joined(self._earlier, self._newest, has_steps=log.step_column is not None)
            self._history = []
        self._identity, self._newest = identity, points
        points = _joined(self._earlier, points, has_steps=log.step_column is not None)
        if points[: len(self._history)] != self._history:
            self._history = []  # the new run has overwritten it
        verdict = self._judge.update(points, history=len(self._history))
        if verdict is None and not self._history and log.non_finite is not None:
            unlimited = RunDescription(planned_points=max(1, len(points)), ignores_learning_rate=True)
            verdict = GrowingLogJudge(unlimited).decided_outside(log)
            if verdict is not None and verdict.step is not None and _is_finite_after(verdict.step, points):
                verdict = None
        return _unstable(verdict, points, log) if verdict is not None else None

    def _was_replaced(self, identity: tuple[int, int]) -> bool:
        """Whether the file is another one than before, or was truncated."""
        assert self._identity is not None
        return identity[0] != self._identity[0] or identity[1] < self._identity[1]

    def _path(self) -> str | None:
        """Return the file to read, in a folder the log that changed last; None if there is none yet."""
        path = self._log.path
        if not os.path.isdir(path):
            return path
        try:
            found = find.find(path)
        except LogError as error:
            self._missing = str(error)
            return None
        changed = [(max(state[2:]), one) for one in found if (state := _state(one)) is not None]
        if self._log.is_new_run:
            changed = [(when, one) for when, one in changed if when >= (self._started_at - 1) * 1e9]
        if not changed:
            self._missing = f"no log in {self._log.shown} has changed since the run began"
        return max(changed)[1] if changed else None

    def _read(self, path: str, *, is_last: bool) -> Log:
        """Read the log of one run. Raises LogError and OSError."""
        is_events = os.path.isdir(path) or tensorboard.EVENT_FILE_MARK in os.path.basename(path)
        if not is_events and not is_last and os.path.getsize(path) <= WHOLE_TEXT_BYTES:
            source = open_source(path)
            try:
                text = source.text()
            finally:
                source.close()
            return read_text(path, whole_lines(text), self._log.names)
        logs = read_all(path, self._log.names)
        if len(logs) > 1:
            raise LogError("several-runs", f"the log holds {count(len(logs), 'run')}: watch one of them")
        return logs[0]

    def _read_history(self) -> list[Point]:
        try:
            return list(self._read(self._log.path, is_last=True).points)
        except (LogError, OSError):
            return []

    def _elsewhere(self) -> str:
        """Return a hint at a file of the same name that changed since the run began."""
        if os.path.exists(self._log.path) or not self._log.is_new_run:
            return ""
        name, seen = os.path.basename(self._log.path), 0
        for folder, folders, files in os.walk("."):
            folders[:] = [one for one in folders if not one.startswith(".")]
            seen += len(files) + len(folders)
            path = os.path.relpath(os.path.join(folder, name))
            if name in files and is_regular(path) and os.stat(path).st_mtime >= self._started_at - 1:
                return f"; did you mean --log {path}?"
            if seen > MAX_SEARCHED:
                break
        return ""


def _state(path: str) -> tuple[int, ...] | None:
    """Return size, inode and time of change of a file, of all files in a folder; None without one."""
    try:
        if os.path.isdir(path):
            inside = [entry.stat() for entry in os.scandir(path) if entry.is_file()]
            times = max((one.st_mtime_ns for one in inside), default=0)
            return sum(one.st_size for one in inside), 0, times
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_ino, found.st_mtime_ns


def _joined(earlier: Sequence[Point], points: Sequence[Point], *, has_steps: bool) -> list[Point]:
    """Return the points of a run whose log was replaced: newer points win; numbered ones are counted on."""
    if not earlier or not points:
        return [*earlier, *points]
    if not has_steps:
        return [*earlier, *(point._replace(step=earlier[-1].step + 1 + at) for at, point in enumerate(points))]
    return [*(point for point in earlier if point.step < points[0].step), *points]


def _is_finite_after(step: int, points: Sequence[Point]) -> bool:
    """Whether losses of later steps show that a NaN outside the points did not end the run."""
    after = [point.loss for point in points if point.step > step]
    return len(after) >= NEWEST_FINITE and all(loss - loss == 0 for loss in after[-NEWEST_FINITE:])


def _unstable(verdict: CurveVerdict, points: Sequence[Point], log: Log) -> Unstable:
    good = verdict.data.get("last_good_step")
    if good is None and verdict.reason == "non-finite" and verdict.step is not None:
        before = [point.step for point in points if point.step < verdict.step and point.loss - point.loss == 0]
        good = before[-1] if before else None
    return Unstable(
        reason=verdict.reason,
        step=verdict.step,
        text=verdict.text,
        last_good_step=good,
        counts_steps=log.step_column is not None,
    )
