"""The run that is watched: a command that is started here, or a process that runs already."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Protocol

from pytest_smoke.train.descendants import descendants

READ_BYTES = 1 << 16
"""Bytes that are read from a pipe at once: a pipe of Linux holds that many."""
DRAIN_SECONDS = 2.0
"""Time in which the rest of the output must arrive after the command has ended: a daemon may keep its pipe open."""
NOWHERE = -1
"""The descriptor of an output that nobody takes any more."""
LOOK_SECONDS = 0.05
"""Time between two looks at whether processes have ended."""


class Run(Protocol):
    """A run that can be stopped."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def exit_status(self) -> int | None:
        """Return the exit status once the run has ended, 128 + N if signal N ended it; None before."""
        ...

    def stop(self, grace_seconds: float, on_term: Callable[[], None]) -> bool:
        """Send SIGTERM, and SIGKILL to what is left after the grace; call `on_term` in between.

        Return whether SIGTERM was enough.
        """
        ...


class Command:
    """A command in a session of its own. Its standard input and environment are those of this process.

    With `copy`, its output passes through this process unchanged, and `copy` gets it, too. The command runs with
    PYTHONUNBUFFERED=1 then: Python keeps what it prints to a pipe until it has 8 KiB. Without `copy`, the command
    writes to the same files or terminal as this process.

    Raises OSError if the command cannot be started.
    """

    def __init__(
        self, command: Sequence[str], *, copy: Callable[[bytes], None] | None, say: Callable[[str], None]
    ) -> None:
        self._copy, self._say = copy, say
        self.is_mid_line = False
        """Whether what was passed on last is the beginning of a line, such as a progress bar."""
        environment = {**os.environ, **({"PYTHONUNBUFFERED": "1"} if copy is not None else {})}
        out, err = _streams(copy is not None)
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            command, env=environment, start_new_session=True, stdout=out, stderr=err
        )
        # stderr first: a progress bar there comes before the line that is printed for the same step.
        pipes = [(pipe, at) for pipe, at in ((self._process.stderr, 2), (self._process.stdout, 1)) if pipe is not None]
        self._output = threading.Thread(target=self._pass_on, args=(pipes,), daemon=True)
        self._output.start()

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"process group {self._process.pid}"

    def signal(self, number: int) -> None:
        """Send a signal to all processes of the command's group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def exit_status(self) -> int | None:
        """Return the exit status once the command has ended, 128 + N if signal N ended it; None before."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def finish_output(self) -> None:
        """Wait for the rest of the output of a command that has ended."""
        self._output.join(DRAIN_SECONDS)

    def stop(self, grace_seconds: float, on_term: Callable[[], None]) -> bool:
        """Stop the command's process group, and descendants in groups of their own."""
        below = _outside(self._process.pid, _identified(descendants(self._process.pid)))
        for number in (signal.SIGTERM, signal.SIGCONT):  # a suspended process handles SIGTERM only when it continues
            self.signal(number)
            _kill(below, number)
        on_term()
        ended = _wait_until(lambda: not self._is_alive(below), grace_seconds)
        self.signal(signal.SIGKILL)
        _kill(below)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_seconds)
        return ended

    def _is_alive(self, below: dict[int, str]) -> bool:
        return self._process.poll() is None or _group_has(self._process.pid) or bool(_living(below))

    def _pass_on(self, pipes: Sequence[tuple[IO[bytes], int]]) -> None:
        """Copy streams until they end. If nobody takes one any more, read on: a full pipe would stop the command."""
        targets = dict(pipes)
        while targets:
            ready = wait([pipe.fileno() for pipe in targets])
            for pipe in [pipe for pipe in targets if pipe.fileno() in ready]:
                data = _read(pipe.fileno())
                if not data:
                    del targets[pipe]
                    pipe.close()
                    continue
                try:
                    _write(targets[pipe], data)
                except BrokenPipeError:  # as in `watch ... | head`
                    targets[pipe] = NOWHERE
                except OSError as error:
                    targets[pipe] = NOWHERE
                    reason = error.strerror or error
                    self._say(f"the command's output is lost from here on ({reason}); the run continues")
                self.is_mid_line = not data.endswith(b"\n")
                if self._copy is not None:
                    self._copy(data)


class RunningProcess:
    """A process that somebody else started.

    Raises ProcessLookupError and PermissionError if it cannot be watched.
    """

    def __init__(self, pid: int) -> None:
        os.kill(pid, 0)
        self._pid = pid
        self._identity = _identity(pid)

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"process group {self._pid}" if self._leads_group() else f"process {self._pid} and those below it"

    def exit_status(self) -> int | None:
        """Return 0 once the process has ended, None before: only its parent gets to know its exit status."""
        return None if _is_running(self._pid, self._identity) else 0

    def stop(self, grace_seconds: float, on_term: Callable[[], None]) -> bool:
        """Stop the process group if the process leads one, else the process and its descendants."""
        below = {self._pid: self._identity, **_identified(descendants(self._pid))}
        leads = self._leads_group()
        self._send(signal.SIGTERM, leads, below)
        self._send(signal.SIGCONT, leads, below)
        on_term()
        ended = _wait_until(lambda: not (_living(below) or (leads and _group_has(self._pid))), grace_seconds)
        self._send(signal.SIGKILL, leads, below)
        return ended

    def _leads_group(self) -> bool:
        try:
            return os.getpgid(self._pid) == self._pid != os.getpgrp()
        except ProcessLookupError:
            return False

    def _send(self, number: int, leads: bool, below: dict[int, str]) -> None:
        if leads:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, number)
        if not leads or number == signal.SIGKILL:
            _kill(below, number)


def _streams(is_piped: bool) -> tuple[int | None, int | None]:
    """Return the command's output streams: pipes, or one pipe for both if both lead to the same place."""
    if not is_piped:
        return None, None
    try:
        one, other = os.fstat(1), os.fstat(2)
        same = (one.st_dev, one.st_ino, one.st_rdev) == (other.st_dev, other.st_ino, other.st_rdev)
    except OSError:  # one of them is closed
        same = False
    return subprocess.PIPE, subprocess.STDOUT if same else subprocess.PIPE


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, READ_BYTES)
    except OSError:
        return b""


def _write(descriptor: int, data: bytes) -> None:
    """Write all bytes, or none to `NOWHERE`. Raises OSError."""
    left = memoryview(data if descriptor != NOWHERE else b"")
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # somebody made the pipe non-blocking
            time.sleep(LOOK_SECONDS)


def _identity(pid: int) -> str:
    """Return what tells a process from a later one with the same id, on Linux: when it started."""
    if sys.platform != "linux":
        return ""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_running(pid: int, identity: str) -> bool:
    """Whether a process still runs; one that has ended and waits for its parent does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    if sys.platform != "linux":
        return True
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in "ZX" and fields[19] == identity


def _identified(pids: Sequence[int]) -> dict[int, str]:
    return {pid: _identity(pid) for pid in pids}


def _outside(group: int, processes: dict[int, str]) -> dict[int, str]:
    """Return the processes that are not in a process group."""
    found = {}
    for pid, identity in processes.items():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) != group:
                found[pid] = identity
    return found


def _living(processes: dict[int, str]) -> list[int]:
    return [pid for pid, identity in processes.items() if _is_running(pid, identity)]


def _kill(processes: dict[int, str], number: int = signal.SIGKILL) -> None:
    for pid in _living(processes):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _group_has(group: int) -> bool:
    """Whether a process group has a process that has not ended."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if sys.platform != "linux":
        return True
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            return True
    return False


def _wait_until(is_done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True
