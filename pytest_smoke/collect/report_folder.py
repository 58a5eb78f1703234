"""The report folder of a session: locked while the session lives, and its `verdicts.json` kept up to date."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pytest_smoke.errors import SmokeError
from pytest_smoke.files import VERDICTS, write_atomic
from pytest_smoke.outcome import Outcome
from pytest_smoke.report.verdicts_json import join_outcomes, outcome_json

LOCK = ".lock"
"""File in a report folder that its session has locked."""
HALF_WRITTEN = (
    f".{VERDICTS}.*",
    *("traces/.*", "predictions/.*.partial", "packages/.*.partial"),
    *(f"checkpoints/*/.{name}.*" for name in ("trained", "last-good", "checked", "step-*")),
)
"""Names under which files are written before they are renamed."""
WRITE_SHARE = 0.05
"""Share of the time in which outcomes arrive that may go into writing them, so that thousands of them stay cheap."""


def lock(folder: Path) -> Callable[[], None]:
    """Lock a report folder for this process; return a function that unlocks it.

    The system releases the lock when the process ends, however it ends. Raises SmokeError if another process has it,
    and OSError if the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(handle, 40).decode(errors="replace").strip()
        os.close(handle)
        process = f" (process {owner})" if owner.isdecimal() else ""
        raise SmokeError(
            f"another pytest session{process} is writing to {folder}: wait for it, or name another folder"
        ) from None
    except OSError:
        pass  # a file system without locks: a second session is not noticed
    else:
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
    return lambda: os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what a killed session left half-written in a report folder that this session has locked."""
    for pattern in HALF_WRITTEN:
        for path in folder.glob(pattern):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


class VerdictsFile:
    """Keeps `verdicts.json` up to date, without writing it whole for each of thousands of outcomes.

    Writing takes at most `WRITE_SHARE` of the time; what has to wait is written by a timer as soon as that allows it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / VERDICTS
        self.problem = ""
        """Why the file could not be written the last time; empty if it was."""
        self._rendered: dict[str, str] = {}
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._next = 0.0
        self._unwritten = False

    def add(self, outcome: Outcome) -> None:
        """Add an outcome, and write the file now or soon."""
        with self._lock:
            self._rendered[outcome.id] = outcome_json(outcome)
            self._unwritten = True
            wait_seconds = self._next - time.monotonic()
            if wait_seconds <= 0:
                self._write()
            elif self._timer is None:
                self._timer = threading.Timer(wait_seconds, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write the file now if it is not up to date."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._unwritten or self.problem:
                self._write()

    def create(self) -> None:
        """Write the file without outcomes. Raises OSError."""
        write_atomic(self._path, join_outcomes({}))

    def _write(self) -> None:
        started = time.monotonic()
        try:
            write_atomic(self._path, join_outcomes(self._rendered))
        except OSError as error:
            self.problem = f"{self._path} could not be written: {error.strerror or error}"
        else:
            self.problem, self._unwritten = "", False
        ended = time.monotonic()
        self._next = ended + (ended - started) / WRITE_SHARE
