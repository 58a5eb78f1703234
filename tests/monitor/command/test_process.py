"""The process of a command: what it leaves when something goes wrong around it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from pytest_smoke.errors import CommandError
from pytest_smoke.monitor.command.process import CommandProcess
from pytest_smoke.recipe.command import CommandPlan
from pytest_smoke.recipe.model import LogSpec

SLEEPS = "import os, time; open('id', 'w').write(f'{os.getpid()} {os.getppid()}\\n'); time.sleep(60)"


def plan(folder: Path, **env: str) -> CommandPlan:
    argv = (sys.executable, "-c", SLEEPS)
    return CommandPlan(argv=argv, cwd=str(folder), env=env, log=None, columns=LogSpec(path="stdout"), micro_batches=1)


def state(pid: int) -> str:
    """Return the state of a process as `ps` shows it: Z for one that has ended, and that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_an_output_that_cannot_be_written_leaves_no_file_open(tmp_path: Path) -> None:
    before = open_files()
    with pytest.raises(FileNotFoundError):
        CommandProcess(plan(tmp_path), tmp_path / "missing" / "output")
    assert open_files() == before


def test_a_command_whose_guard_was_killed_is_ended_when_it_is_closed(tmp_path: Path) -> None:
    """As after Ctrl-C: nobody has waited for it since."""
    process = CommandProcess(plan(tmp_path), tmp_path / "output")
    while not (path := tmp_path / "id").exists() or not path.read_text().endswith("\n"):
        time.sleep(0.01)
    command, guard = map(int, path.read_text().split())
    os.kill(guard, signal.SIGKILL)
    process.close()
    deadline = time.monotonic() + 10
    while state(command) not in ("Z", "gone"):  # the system takes a moment to kill it
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_guard_that_dies_before_it_has_read_what_to_start_is_a_command_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment of more than the 64 KiB of a pipe is still being written then."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    before = open_files()
    with pytest.raises(CommandError, match="the process that starts it ended"):
        CommandProcess(plan(tmp_path, LARGE="x" * 2**20), tmp_path / "output")
    assert open_files() == before
