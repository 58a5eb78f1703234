"""The process between pytest and a command: starts the command, and ends it with all its descendants.

It ends the command when pytest says so, and when pytest dies. Orphans below it become its children, on Linux, so that
none is left. `process.py` starts it, with the specification as the first line of its standard input.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

from pytest_smoke.files import strict_json
from pytest_smoke.train.descendants import adopt_orphans, descendants, end_descendants
from pytest_smoke.train.device_pool import hold_slots_of_run

TERM_SECONDS = 10.0
"""Time in which a command must exit after SIGTERM; a trainer may write a checkpoint meanwhile."""
REAP_SECONDS = 2.0
"""Time in which killed processes must be gone; one in a device driver takes longer."""
POLL_SECONDS = 0.02
"""Time between two looks at whether the command has exited."""


def main(status: int) -> None:
    """Run a command until it exits or has to be stopped. Status lines, as JSON, go to the file descriptor `status`.

    `{"error": text}` if it cannot be started, else `{"pid": ...}` and in the end `{"exit": status}`.
    """
    os.set_inheritable(status, False)
    adopt_orphans()
    spec = json.loads(sys.stdin.buffer.readline())
    hold_slots_of_run(spec["env"])
    try:
        command = subprocess.Popen(
            spec["argv"], cwd=spec["cwd"], env=spec["env"], stdin=subprocess.DEVNULL, start_new_session=True
        )
    except (OSError, ValueError) as error:
        _tell(status, {"error": _described(error)})
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # only pytest ends this process; after the start: it is inherited
    _tell(status, {"pid": command.pid})
    while command.poll() is None:
        ready, _, _ = select.select([sys.stdin], [], [], POLL_SECONDS)
        if ready:  # pytest asks to stop it, perhaps within another time, or has died
            _stop(command, float(sys.stdin.buffer.readline() or spec["term_seconds"]))
    end_descendants(os.getpid())
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(command.pid, signal.SIGKILL)  # where no list of processes tells who is left
    _reap()
    _tell(status, {"exit": command.returncode})


def _stop(command: subprocess.Popen[bytes], seconds: float) -> None:
    """Ask the whole process group to exit, and kill it and all other descendants after `seconds`."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(command.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if command.poll() is not None and not descendants(os.getpid()):
            return
        time.sleep(POLL_SECONDS)
    end_descendants(os.getpid())
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(command.pid, signal.SIGKILL)
    command.wait()


def _described(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _reap() -> None:
    """Wait for the orphans that this process adopted; the system may have nobody else who does."""
    deadline = time.monotonic() + REAP_SECONDS
    with suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(POLL_SECONDS)


def _tell(status: int, what: dict[str, object]) -> None:
    with suppress(OSError):  # pytest has died
        os.write(status, strict_json(what).encode() + b"\n")
