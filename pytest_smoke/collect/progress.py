"""One live line while a smoke run trains, on a terminal only."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest

from pytest_smoke.monitor.child import Watch
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.recipe.case import Case
from pytest_smoke.text import number, seconds

REFRESH_SECONDS = 0.2
CLEAR_LINE = "\r\x1b[K"


@contextmanager
def progress_of(config: pytest.Config, case: Case) -> Iterator[Watch | None]:
    """Yield a watch that prints step, loss, learning rate and time left; None if nobody would see it."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not reporter.isatty or config.option.verbose < 0 or hasattr(config, "workerinput"):
        yield None
        return
    line = _Line(reporter, config.pluginmanager.get_plugin("capturemanager"), case)
    try:
        yield line.draw
    finally:
        line.clear()


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


class _Line:
    def __init__(self, reporter: Any, capture: Any, case: Case) -> None:
        self._reporter, self._capture, self._planned = reporter, capture, case.run_steps
        self._drawn = time.monotonic()
        self._first: tuple[float, int] | None = None
        """Time and number of the first steps: building the task says nothing about the time left."""
        self._visible = False

    def draw(self, monitor: RunMonitor) -> None:
        now = time.monotonic()
        if now - self._drawn < REFRESH_SECONDS or not monitor.steps:
            return
        self._drawn = now
        self._first = self._first or (now, monitor.steps)
        row = monitor.trace.steps[-1]
        elapsed, done = now - self._first[0], monitor.steps - self._first[1]
        left = f"  {seconds(elapsed / done * (self._planned - monitor.steps))} left" if done > 0 else ""
        rate = f"  lr {number(row.lr, 3)}" if row.lr is not None else ""
        stage = f"  stage {row.stage}" if row.stage else ""
        text = f"{stage}  step {row.step}/{self._planned}  loss {number(row.loss)}{rate}{left}"
        with _uncaptured(self._capture):
            if not self._visible:
                self._reporter.ensure_newline()
            self._reporter.write(CLEAR_LINE + text[: terminal_width() - 1], flush=True)
        self._visible = True

    def clear(self) -> None:
        if self._visible:
            with _uncaptured(self._capture):
                self._reporter.write(CLEAR_LINE, flush=True)
