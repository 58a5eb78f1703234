"""Judge in a process of its own: whatever happens to it, the run and its output do not depend on it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection

from pytest_smoke.plain import exception_text
from pytest_smoke.watch.follow import LogFollower, Unstable, Watched, WatchedLog

SLEEP_PER_READ = 10
"""Sleep at least this many times as long as the last read took: each read parses the whole log."""
NICENESS = 10
"""Added to the niceness of the process: judging gives way to training."""
READY_SECONDS = 10.0
"""Longest wait for the first look at the log: what it holds before the run starts is not the run's."""
READY = "ready"
"""What the process sends when it has looked at the log for the first time."""
LAST_READ_SECONDS = 30.0
"""Time for the last read after the run has ended."""
PASSED_ON = tuple(
    one
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if (one := getattr(signal, name, None)) is not None
)
"""Signals that `watch` passes on to the command."""

Report = str | Unstable | Watched
"""A notice to print, the verdict, or what was seen when the run had ended."""


class JudgeProcess:
    """A process that follows a log. It is forked, so it must be started before any thread."""

    def __init__(self, log: WatchedLog, *, poll_seconds: float) -> None:
        """Start the process, and wait until it has looked at the log. Raises OSError if it cannot be started."""
        context = multiprocessing.get_context("fork")
        self._connection, child_end = context.Pipe()
        self._process = context.Process(target=_main, args=(log, poll_seconds, child_end, self._connection))
        self._process.daemon = True
        self._process.start()
        child_end.close()
        self._is_open = True
        with contextlib.suppress(OSError, EOFError):  # `reports` tells that it is gone
            if self._connection.poll(READY_SECONDS):
                self._connection.recv()

    def reports(self, seconds: float = 0.0) -> list[Report]:
        """Return what the process has reported; wait for it up to `seconds`, and that long if there is nothing."""
        found: list[Report] = []
        if not self._is_open:
            time.sleep(seconds)
            return found
        try:
            while self._connection.poll(0.0 if found else seconds):
                if (report := self._connection.recv()) != READY:
                    found.append(report)
        except (EOFError, OSError):
            self._is_open = False
            if not any(isinstance(one, Unstable | Watched) for one in found):
                self._process.join(1.0)
                code = self._process.exitcode or 0
                how = f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code}"
                found.append(f"the judging process {how}: the run continues, but nothing watches it")
        return found

    def end(self) -> list[Report]:
        """Ask for a last look at the log, and return what comes of it; end the process."""
        found: list[Report] = []
        with contextlib.suppress(OSError):
            self._connection.send("end")
        deadline = time.monotonic() + LAST_READ_SECONDS
        while self._is_open and time.monotonic() < deadline and not any(isinstance(one, Watched) for one in found):
            found += self.reports(0.1)
        self.kill()
        return found

    def kill(self) -> None:
        """End the process at once."""
        self._is_open = False
        self._process.kill()
        self._process.join()
        self._connection.close()


def _main(log: WatchedLog, poll_seconds: float, connection: Connection, parent_end: Connection) -> None:
    """Follow the log until the verdict, the message `end`, or the end of the parent."""
    parent_end.close()
    for one in PASSED_ON:
        signal.signal(one, signal.SIG_IGN)
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)  # it must not keep a pipe open that somebody waits for
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    try:
        _follow(LogFollower(log), poll_seconds, connection)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone
    except MemoryError:
        with contextlib.suppress(OSError):
            connection.send("not enough memory to read the log")
    except Exception as error:
        with contextlib.suppress(OSError):
            connection.send(f"judging failed with {exception_text(error)}: please report it")


def _follow(follower: LogFollower, poll_seconds: float, connection: Connection) -> None:
    connection.send(READY)
    took, has_ended = 0.0, False
    while True:
        if not has_ended and connection.poll(max(poll_seconds, SLEEP_PER_READ * took)):
            connection.recv()
            has_ended = True
        began = time.monotonic()
        verdict = follower.update(is_last=has_ended)
        took = time.monotonic() - began
        for notice in follower.notices():
            connection.send(notice)
        if verdict is not None:
            connection.send(verdict)
        if has_ended:
            connection.send(follower.watched())
        if verdict is not None or has_ended:
            return
