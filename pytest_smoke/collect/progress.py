"""One live line while a smoke runs, on a terminal only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_smoke.conduct.runs import Watch
from pytest_smoke.conduct.stand import Stand
from pytest_smoke.recipe.case import Case

REFRESH_SECONDS = 0.2
CLEAR = "\r\x1b[K"


@contextmanager
def progress_of(config: pytest.Config, case: Case) -> Iterator[Watch | None]:
    """A watch that draws step, loss, learning rate and time left; None where nobody would see it."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not reporter.isatty or config.option.verbose < 0 or hasattr(config, "workerinput"):
        yield None
        return
    capture = config.pluginmanager.get_plugin("capturemanager")
    began = drawn = time.monotonic()
    lines = 0

    def write(text: str) -> None:
        # While a test runs, the terminal's file descriptor is captured.
        with capture.global_and_fixture_disabled():
            reporter.write(text, flush=True)

    def watch(stand: Stand) -> None:
        nonlocal drawn, lines
        now = time.monotonic()
        if now - drawn < REFRESH_SECONDS or not stand.steps:
            return
        if not lines:
            with capture.global_and_fixture_disabled():
                reporter.ensure_newline()
        drawn, lines = now, lines + 1
        row = stand.trace.steps[-1]
        left = (now - began) / stand.steps * (case.run_steps - stand.steps)
        line = f"  step {row.step}/{case.run_steps}  loss {row.loss:.4g}  lr {row.lr:.3g}  {_clock(left)} left"
        write(f"{CLEAR}{line[: reporter.screen_width - 1] if hasattr(reporter, 'screen_width') else line}")

    try:
        yield watch
    finally:
        if lines:
            write(CLEAR)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
