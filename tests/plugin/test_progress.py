"""What a session shows while it trains, as a terminal shows it (`pyte` is one) and as a log has it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable

import pexpect
import pyte
import pytest

from tests.conftest import OPTIONS
from tests.plugin.conftest import RECIPE, Project

TASKS = """
import os, time
import tasks

class Waits(tasks.Teacher):
    calls = 0

    def losses(self, model, batch):
        self.calls += 1
        if self.calls == 300:
            while not os.path.exists("go"):
                time.sleep(0.05)
        if self.calls % 10 == 0:
            time.sleep(0.05)
        return super().losses(model, batch)
"""
QUICKLY = """
from pytest_smoke.collect import progress
progress.LINE_SECONDS = 0.5
progress.FIRST_SECONDS = 0.0
"""
WITHOUT_RICH = """
import sys
sys.modules["rich"] = sys.modules["rich.console"] = None
"""
PYTEST = ["-m", "pytest", "--smoke", *OPTIONS, "-p", "no:cacheprovider"]
UNSET = ("CI", "BUILD_NUMBER", "COLUMNS", "LINES", "NO_COLOR")


class Session:
    """A session in a terminal."""

    def __init__(self, project: Project, *args: str, columns: int = 80, **environment: str) -> None:
        env = {key: value for key, value in os.environ.items() if key not in UNSET}
        self.shell: pexpect.spawn[str] = pexpect.spawn(
            sys.executable,
            [*PYTEST, *args],
            cwd=project.path,
            encoding="utf-8",
            dimensions=(24, columns),
            env={**env, "TERM": "xterm-256color", **environment},
        )
        self.screen = pyte.Screen(columns, 24)
        self._stream = pyte.Stream(self.screen)
        self.written = ""

    def resize(self, columns: int) -> None:
        self.shell.setwinsize(24, columns)
        self.screen.resize(24, columns)

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def wait_for(self, is_there: Callable[[str], bool]) -> str:
        """Return the screen as soon as it is as expected; the last one if the session ends."""
        deadline = time.monotonic() + 120
        while not is_there("\n".join(self.lines())):
            assert time.monotonic() < deadline, "\n".join(self.lines())
            with contextlib.suppress(pexpect.TIMEOUT):
                try:
                    text = self.shell.read_nonblocking(4096, timeout=0.1)
                except pexpect.EOF:
                    break
                self.written += text
                self._stream.feed(text)
        return "\n".join(self.lines())

    def finish(self) -> str:
        screen = self.wait_for(lambda _: False)
        self.shell.close()
        assert self.shell.exitstatus == pytest.ExitCode.OK, screen
        return screen


@pytest.fixture
def waiting(project: Project) -> Project:
    """Return a project whose recipes wait at step 299 for the file `go`."""
    (project.path / "waiting.py").write_text(TASKS)
    for name in ("a", "b"):
        project.recipe(name, base=RECIPE.replace("tasks:Teacher", "waiting:Waits"))
    return project


def test_a_terminal_shows_figures_curve_and_distance_to_the_alarm_below_untouched_output(waiting: Project) -> None:
    session = Session(waiting, "-v", "a.smoke.yaml")
    screen = session.wait_for(lambda text: "step 2" in text and "alarm at" in text)
    lines = screen.splitlines()
    at = lines.index("a.smoke.yaml::constant")
    assert lines[at + 1].startswith("  a::constant  step 2")
    assert "/400  ━" in lines[at + 1]
    assert "    loss █" in lines[at + 2]
    assert " its lowest level" in lines[at + 2]
    session.resize(30)
    screen = session.wait_for(lambda text: "no step for" in text or "\n  step 2" in text)
    assert "alarm at" not in screen
    session.resize(80)
    (waiting.path / "go").touch()
    screen = session.finish()
    assert "a.smoke.yaml::constant PROMOTE" in screen.replace("\n", " ")
    assert "━" not in screen
    assert " left" not in screen


def test_without_rich_a_terminal_shows_one_line_and_without_colours_none(waiting: Project) -> None:
    (waiting.path / "conftest.py").write_text(WITHOUT_RICH)
    session = Session(waiting, "a.smoke.yaml", NO_COLOR="1")
    screen = session.wait_for(lambda text: "  step 2" in text)
    (line,) = [line for line in screen.splitlines() if "  step 2" in line]
    assert line.startswith("  step 2")
    assert "/400" in line
    assert "loss 0." in line
    assert "lr 0.003" in line
    (waiting.path / "go").touch()
    assert "step 2" not in session.finish()
    assert "\x1b[3" not in session.written


def test_a_simple_terminal_gets_no_escape_sequences(project: Project) -> None:
    (project.path / "conftest.py").write_text(QUICKLY)
    project.recipe(base=RECIPE.replace("max_steps: 400", "max_steps: 3000"))
    session = Session(project, TERM="dumb")
    session.finish()
    assert "\x1b" not in session.written
    assert "smoke: 0 of 1 smoke run finished in " in session.written


def test_a_log_gets_lines_and_none_with_q(project: Project) -> None:
    """Those of several workers are in `test_interruption.py`."""
    (project.path / "conftest.py").write_text(QUICKLY)
    project.recipe(base=RECIPE.replace("max_steps: 400", "max_steps: 3000"))
    printed = project.run("--smoke", "-v").stdout.str()
    (line, *_) = [line for line in printed.splitlines() if line.startswith("smoke: ")]
    assert line.startswith("smoke: 0 of 1 smoke run finished in ")
    assert "; running: good::constant (" in line
    assert "\ngood.smoke.yaml::constant PROMOTE " in printed
    assert "\x1b" not in printed
    assert "smoke: " not in project.run("--smoke", "-q", "--smoke-mode", "wiring").stdout.str()
