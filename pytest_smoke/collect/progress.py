"""What is shown while smoke runs train: a display on a terminal, and one line a minute in a log."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import pytest

from pytest_smoke.collect.terminal import Terminal
from pytest_smoke.collect.workers import WorkerFolder, worker_of
from pytest_smoke.events import Step
from pytest_smoke.keys import PROGRESS
from pytest_smoke.monitor.child import RunWatcher
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.recipe.case import Case
from pytest_smoke.report.live import RichDisplay, minute_line, plain_line
from pytest_smoke.report.run_status import RunStatus

DRAW_SECONDS = 0.5
"""Time between two drawings: to draw with `rich` takes about 2 ms."""
FIRST_SECONDS = 0.5
"""A run that is shorter is not drawn: thousands of preflights would flicker."""
LINE_SECONDS = 60.0
"""Time between two lines in a log. CI systems end a job that prints nothing for 10 minutes or more."""
STATUS_SECONDS = 0.4
"""Time between two updates of what is shown of a run."""
MIN_WIDTH = 40
"""A narrower terminal gets one line."""
CURVE_POINTS = 80
"""Points that a curve is kept with, at least half of them: more than are drawn."""
CI_VARIABLES = ("CI", "BUILD_NUMBER")
"""Variables by which pytest knows a CI system. Some give the job a terminal, whose output becomes a log."""

Mode = Literal["live", "lines"]


@contextmanager
def progress_of(config: pytest.Config, case: Case, *, item_id: str) -> Iterator[RunWatcher | None]:
    """Yield what follows a run, to show it here or in the controller of pytest-xdist; None if nobody would see it."""
    if (worker := worker_of(config)) is not None and not config.option.smoke_preflight:
        yield RunFollower(case, item_id, lambda status: worker.show(status.to_dict()))
        return
    progress = config.stash.get(PROGRESS, None)
    if progress is None or progress.mode is None:
        yield None
        return
    with progress.showing(item_id) as show:
        yield RunFollower(case, item_id, show)


def terminal_width() -> int:
    """Return the width of the terminal in columns; 80 if it is not known."""
    return shutil.get_terminal_size((80, 24)).columns


def say(config: pytest.Config, text: str) -> None:
    """Print a line that stays, in the middle of a test; nothing under -q and in a worker."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or config.option.verbose < 0 or hasattr(config, "workerinput"):
        return
    with _uncaptured(config.pluginmanager.get_plugin("capturemanager")):
        reporter.ensure_newline()
        reporter.write_line(text, flush=True)


def _uncaptured(capture: Any) -> AbstractContextManager[None]:
    """Release the terminal, which pytest captures while a test runs; not under `-p no:capture`."""
    uncaptured: AbstractContextManager[None] = capture.global_and_fixture_disabled() if capture else nullcontext()
    return uncaptured


class RunFollower:
    """Follows one run, and passes on what is to be shown of it, not more often than it can be read."""

    def __init__(self, case: Case, item_id: str, show: Callable[[RunStatus], None]) -> None:
        self._case, self._id, self._show = case, item_id, show
        self._started = self._shown = self._reported = time.monotonic()
        self._reached: tuple[int, str] = (0, "")
        """Steps made, and what the run did, when something was reported last."""
        self._first: tuple[float, int] | None = None
        """Time and number of the first steps: building the task says nothing about the time left."""
        self._curve = _Curve()
        self.phase("preflight")

    def phase(self, doing: str) -> None:
        """Show a part of the run in which nothing is reported."""
        now = self._reported = time.monotonic()
        self._show(
            RunStatus(
                id=self._id,
                doing=doing,
                started_at=self._started,
                reported_at=now,
                planned_steps=self._case.run_steps if self._case.is_complete else 0,
            )
        )

    def on_events(self, monitor: RunMonitor) -> None:
        """Show the steps so far. Also called while nothing is reported, so that the newest steps are shown, too."""
        now = time.monotonic()
        if now - self._shown < STATUS_SECONDS:
            return
        self._shown = now
        if (reached := (monitor.steps, monitor.doing)) != self._reached:
            self._reached, self._reported = reached, now
        self._show(self._status(monitor, now))

    def _status(self, monitor: RunMonitor, now: float) -> RunStatus:
        made, planned = monitor.steps, monitor.case.run_steps
        memory = monitor.memory_gib or (None, None)
        status = RunStatus(
            id=self._id,
            doing=monitor.doing if made else monitor.doing or "starting",
            started_at=self._started,
            reported_at=self._reported,
            steps=made,
            planned_steps=planned,
            memory_gib=memory[0],
            device_memory_gib=memory[1],
        )
        if not monitor.trace.steps:
            return status
        self._first = self._first or (self._reported, made)
        elapsed, done = self._reported - self._first[0], made - self._first[1]
        row, stage = monitor.trace.steps[-1], monitor.current_stage
        distance = stage.alarm_distance()
        return RunStatus(
            **{
                **status.to_dict(),
                "step": row.step,
                "stage": row.stage,
                "loss": row.loss,
                "lr": row.lr,
                "losses": self._curve.means(monitor.trace.steps),
                "seconds_left": elapsed / done * (planned - made) if done > 0 else None,
                "level": distance.level if distance is not None else None,
                "rise": distance.rise if distance is not None else 0.0,
                "alarm": distance.alarm if distance is not None else 0.0,
                "is_confirming": stage.is_confirming,
            }
        )


class _Curve:
    """Means of consecutive losses, so many that a terminal can show them; a longer run has more losses in each."""

    def __init__(self) -> None:
        self._means: list[float] = []
        self._seen, self._size, self._sum, self._count = 0, 1, 0.0, 0

    def means(self, rows: Sequence[Step]) -> tuple[float, ...]:
        """Return the means, the newest of which may have fewer losses."""
        if len(rows) < self._seen:  # a log was read again
            self.__init__()  # type: ignore[misc]  # from its beginning
        for at in range(self._seen, len(rows)):
            self._sum, self._count = self._sum + rows[at].loss, self._count + 1
            if self._count == self._size:
                self._means.append(self._sum / self._count)
                self._sum, self._count = 0.0, 0
                if len(self._means) == CURVE_POINTS:
                    self._means = [(a + b) / 2 for a, b in zip(self._means[::2], self._means[1::2], strict=True)]
                    self._size *= 2
        self._seen = len(rows)
        return (*self._means, self._sum / self._count) if self._count else tuple(self._means)


class SessionProgress:
    """Shows the runs of a session in the process that reports. Registered as a plugin."""

    def __init__(
        self, config: pytest.Config, workers: WorkerFolder, counts: Callable[[], tuple[int, int]] = lambda: (0, 0)
    ) -> None:
        """Show nothing yet. `counts` returns how many outcomes there are, and how many items were collected."""
        self._config, self._workers, self._counts = config, workers, counts
        self._started = time.monotonic()
        self._line_due = self._started + LINE_SECONDS
        self._local: dict[str, RunStatus] = {}
        self._terminal: Terminal | None = None
        self._rich: RichDisplay | None = None
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._is_paused = False
        self._mode: Mode | Literal["unknown"] | None = "unknown"
        config.add_cleanup(self._close)

    @property
    def mode(self) -> Mode | None:
        """What is shown: `live` on a terminal, `lines` in a log, None for nothing."""
        if self._mode == "unknown":  # not before another plugin has had its chance to replace the reporter
            self._mode = self._find_mode()
        return self._mode

    @contextmanager
    def showing(self, item_id: str) -> Iterator[Callable[[RunStatus], None]]:
        """Show a run of this process; yield what takes its status.

        Without a process of its own, a run may fork, and no thread must be there: it is then shown at its events.
        """
        has_thread = self._config.option.smoke_isolation != "none"

        def show(status: RunStatus) -> None:
            self._local[item_id] = status
            if not has_thread:
                self._tick()

        if has_thread:
            self._start()
        try:
            yield show
        finally:
            self._local.pop(item_id, None)
            self._stop()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Show the runs of the workers, until the session finishes."""
        if self.mode is not None:
            self._start()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Show nothing further."""
        self._stop()

    def pytest_enter_pdb(self) -> None:
        """Leave the terminal to the debugger."""
        self._is_paused = True
        if self._terminal is not None:
            self._terminal.erase()

    def pytest_leave_pdb(self) -> None:
        """Continue."""
        self._is_paused = False

    def _find_mode(self) -> Mode | None:
        option = self._config.option
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or option.verbose < 0 or hasattr(self._config, "workerinput"):
            return None
        is_log = (
            not getattr(reporter, "isatty", False)
            or os.environ.get("TERM") == "dumb"
            or any(os.environ.get(name) for name in CI_VARIABLES)
            or (option.smoke_isolation == "none" and option.capture == "no")  # the task prints to the terminal
        )
        if not is_log and type(reporter) is not pytest.TerminalReporter:
            return None  # it may draw on the terminal itself
        try:
            with _uncaptured(self._config.pluginmanager.get_plugin("capturemanager")):
                self._terminal = Terminal(reporter)
        except (AttributeError, OSError, ValueError):  # it writes to no file: pytest within pytest
            return None
        if is_log:
            return "lines"
        with contextlib.suppress(ImportError):
            self._rich = RichDisplay(encoding=self._terminal.encoding, colours=reporter.hasmarkup)
        return "live"

    def _start(self) -> None:
        if self._thread is None:
            self._over.clear()
            self._thread = threading.Thread(target=self._show_until_over, name="smoke-progress", daemon=True)
            self._thread.start()

    def _stop(self) -> None:
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._thread = None
        if self._terminal is not None:
            self._terminal.erase()

    def _close(self) -> None:
        self._stop()
        if self._terminal is not None:
            self._terminal.close()
            self._terminal = None

    def _show_until_over(self) -> None:
        while not self._over.wait(DRAW_SECONDS if self._mode == "live" else self._line_due - time.monotonic()):
            try:
                self._tick()
            except Exception:  # what is shown must not end a session; the next drawing may succeed
                self._line_due = max(self._line_due, time.monotonic() + DRAW_SECONDS)

    def _tick(self) -> None:
        now, terminal = time.monotonic(), self._terminal
        if terminal is None or self._is_paused or (self._mode == "lines" and now < self._line_due):
            return
        runs = self._runs(now)
        finished, expected = self._counts()
        elapsed = now - self._started
        if self._mode == "lines":
            self._line_due = now + LINE_SECONDS
            if runs:
                terminal.add_line(minute_line(runs, finished=finished, expected=expected, elapsed=elapsed, now=now))
            return
        if not runs:
            terminal.erase()
            return
        size = terminal.size
        if self._rich is None or size.columns < MIN_WIDTH:
            terminal.draw([plain_line(runs, width=size.columns, now=now)])
            return
        lines = self._rich.lines(
            runs,
            finished=finished,
            expected=expected,
            elapsed=elapsed,
            now=now,
            width=size.columns,
            height=max(1, size.lines - 2),
        )
        terminal.draw(lines)

    def _runs(self, now: float) -> list[RunStatus]:
        """Return the runs to show, those of workers in the order of the workers."""
        runs = list(self._local.values())
        for tree in self._workers.running():
            with contextlib.suppress(TypeError):  # of a worker that has not said what it executes
                runs.append(RunStatus.from_dict(tree))
        return [run for run in runs if now - run.started_at >= FIRST_SECONDS]
