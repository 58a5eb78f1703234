"""Start a command, follow whether it runs, stop it with all its descendants."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from pytest_smoke.errors import CommandError
from pytest_smoke.files import strict_json
from pytest_smoke.interruption import INTERRUPTION
from pytest_smoke.monitor.command.guard import TERM_SECONDS
from pytest_smoke.recipe.command import CommandPlan
from pytest_smoke.train.descendants import MARK, end_orphans

INTERRUPTED_SECONDS = 3.0
"""Time in which a command must exit if the session was interrupted: GitHub kills a cancelled job after 10 s."""
EXIT_SECONDS = 5.0
"""Time in which the guard must exit after the command did."""
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from pytest_smoke.monitor.command.guard import main; main({})"
_PACKAGE_FOLDER = str(Path(__file__).parents[3])
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}
"""Python keeps 8 KiB of what it prints to a file: an instability would show minutes later."""


class CommandProcess:
    """A running command. What it prints, also as errors, goes to a file."""

    def __init__(self, plan: CommandPlan, output: Path, *, term_seconds: float | None = None) -> None:
        """Start the command. Raises CommandError if it cannot be started, and OSError for `output`."""
        self._term_seconds = TERM_SECONDS if term_seconds is None else term_seconds
        self._buffer = b""
        self._status, status_end = os.pipe()
        self.exit_status: int | None = None
        """As `subprocess` gives it: negative for a signal; None while the command runs."""
        try:
            with output.open("wb") as printed:
                self._guard = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _BOOT.format(status_end), _PACKAGE_FOLDER],
                    stdin=subprocess.PIPE,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    pass_fds=[status_end],
                    start_new_session=True,
                )
        except BaseException:
            os.close(self._status)
            raise
        finally:
            os.close(status_end)
        self._mark = uuid4().hex
        env: Mapping[str, str] = {**os.environ, **UNBUFFERED, **plan.env, MARK: self._mark}
        spec = {"argv": plan.argv, "cwd": plan.cwd, "env": env, "term_seconds": self._term_seconds}
        assert self._guard.stdin is not None
        with suppress(BrokenPipeError):  # the guard has died already
            self._guard.stdin.write(strict_json(spec).encode() + b"\n")
            self._guard.stdin.flush()
        started = self._next(None)
        if started is None or "pid" not in started:
            self.close()
            raise CommandError(str((started or {}).get("error", "the process that starts it ended")))

    def wait(self, seconds: float) -> bool:
        """Wait for the command to exit; return whether it has."""
        if self.exit_status is None and (ended := self._next(seconds)) is not None:
            if "exit" not in ended:
                end_orphans(self._mark)  # the guard was killed, and ends nothing any more
            self.exit_status = int(str(ended.get("exit", -9)))
        return self.exit_status is not None

    def stop(self) -> None:
        """Send SIGTERM to the command, and SIGKILL to it and its descendants if they do not exit."""
        with INTERRUPTION.held():
            self._stop()

    def _stop(self) -> None:
        self._close_input()
        self.wait(self._term_seconds + EXIT_SECONDS)

    def close(self, *, term_seconds: float | None = None) -> None:
        """Stop the command if it still runs, and release what it holds. A signal waits until then.

        `term_seconds`: another time in which it must exit after SIGTERM.
        """
        with INTERRUPTION.held():
            self._close(self._term_seconds if term_seconds is None else term_seconds)

    def _close(self, term_seconds: float) -> None:
        assert self._guard.stdin is not None
        with suppress(BrokenPipeError, ValueError):  # the guard has exited; the input is closed
            self._guard.stdin.write(b"%.3f\n" % term_seconds)
        self._close_input()
        try:
            self._guard.wait(term_seconds + EXIT_SECONDS)
        except subprocess.TimeoutExpired:  # a process in a device driver cannot be killed before that returns
            self._guard.kill()
        self.wait(0.0)  # for a guard that was killed meanwhile
        os.close(self._status)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_interrupt = error is not None and not isinstance(error, Exception)
        self.close(term_seconds=min(INTERRUPTED_SECONDS, self._term_seconds) if is_interrupt else None)

    def _close_input(self) -> None:
        assert self._guard.stdin is not None
        with suppress(BrokenPipeError):
            self._guard.stdin.close()

    def _next(self, seconds: float | None) -> dict[str, object] | None:
        """Return the guard's next status line; None if none comes in time. A guard that died is an exit, too."""
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._status], [], [], seconds)
            if not ready:
                return None
            data = os.read(self._status, 2**16)
            if not data:
                return {}
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, object] = json.loads(line)
        return found
