"""End the processes that a training process started, also those that left its process group. Imports no torch."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

MARK = "PYTEST_SMOKE_PROCESS"
"""Environment variable of a training process, which the programs that it starts inherit."""
MEMORY_MANAGER = "torch_shm_manag"
"""Name, as Linux cuts it, of torch's process that removes shared memory and its own folder when nobody uses them."""
MANAGER_SECONDS = 5.0
"""Time in which that process must have done so. It waits for 2 s after its last user has ended."""
MAX_LOOKS = 20
"""Times that processes are looked for. After a kill a process starts no other one, so only a race needs a third."""
WRITES = os.O_WRONLY | os.O_RDWR
PR_SET_PDEATHSIG = 1
"""From `linux/prctl.h`: the signal that this process gets when the thread that started it ends."""
PR_SET_CHILD_SUBREAPER = 36
"""From `linux/prctl.h`: orphans below this process become its children, not those of process 1."""


def adopt_orphans() -> None:
    """Keep daemons among the descendants of this process, on Linux."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent() -> None:
    """Kill this process when the one that started it ends, on Linux."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """Return the processes below a process, as Linux lists them; none on other systems."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = entry.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        children.setdefault(int(after_name[1]), []).append(int(entry.parent.name))
    found: list[int] = []
    pending = [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def helpers(pid: int) -> dict[int, str]:
    """Return the processes below a process, each with the time of its start, which tells it from a later one.

    Read from what Linux lists for each thread; empty if it does not. Only the files of these processes are read, so
    that it takes the same time on a machine with many others.
    """
    found: dict[int, str] = {}
    pending = [pid]
    while pending:
        for entry in Path(f"/proc/{pending.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError, ValueError):  # it has ended
                below = {int(child): _started_at(int(child)) for child in entry.read_text().split()}
                found |= below
                pending += below
    return found


def end_helpers(seen: Mapping[int, str]) -> None:
    """Kill those of `helpers` that are still there, but not torch's memory manager."""
    for pid, started in seen.items():
        with contextlib.suppress(OSError, ValueError):
            if _started_at(pid) == started and not _is_memory_manager(pid):
                _kill([pid])


def _started_at(pid: int) -> str:
    """Return when a process started, in the kernel's ticks. Raises OSError."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]


def end_descendants(pid: int) -> None:
    """Kill every process below a process but torch's memory manager, which ends after its last user."""
    _kill_all(lambda: [one for one in descendants(pid) if not _is_memory_manager(one)])


def end_orphans(mark: str, pipe: int | None = None) -> None:
    """Kill what a process left that is dead: its descendants have another parent now.

    `mark`: value of the environment variable `MARK` that it had, which programs inherit. `pipe`: inode of the pipe that
    it printed to, which copies of it hold open; None without one.
    """
    managers: list[int] = []

    def others() -> list[int]:
        found = _marked(mark, pipe)
        managers[:] = [one for one in found if _is_memory_manager(one)]
        return [one for one in found if one not in managers]

    _kill_all(others)
    deadline = time.monotonic() + MANAGER_SECONDS
    while any(map(_is_memory_manager, managers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    _kill(managers)


def _marked(mark: str, pipe: int | None) -> list[int]:
    """Return the processes that `end_orphans` is about."""
    marked, held, python = f"{MARK}={mark}".encode(), f"pipe:[{pipe}]", os.path.realpath(sys.executable)
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int(folder.name) != os.getpid() and (
                marked in (folder / "environ").read_bytes().split(b"\0")
                or (pipe is not None and os.readlink(folder / "exe") == python and _writes_to(folder, held))
            ):
                found.append(int(folder.name))
        except OSError:  # it has ended, or belongs to someone else
            continue
    return found


def _is_memory_manager(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == MEMORY_MANAGER
    return False


def _writes_to(process: Path, pipe: str) -> bool:
    """Tell whether a process has a pipe open for writing. Raises OSError if it has ended.

    A copy closes some of its files after its fork, so one that is listed may be gone a moment later.
    """
    for handle in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(handle) == pipe:
                flags = (process / "fdinfo" / handle.name).read_text().partition("flags:")[2].split()[0]
                if int(flags, 8) & WRITES:
                    return True
    return False


def _kill_all(find: Callable[[], Iterable[int]]) -> None:
    """Kill what `find` returns until it has found nothing new twice.

    A process may have started another one meanwhile. If it has also ended since its pid was listed, one look finds
    neither.
    """
    killed: set[int] = set()
    has_found = True
    for _ in range(MAX_LOOKS):
        found = set(find()) - killed
        if not found and not has_found:
            return
        has_found = bool(found)
        _kill(found)
        killed |= found


def _kill(processes: Iterable[int]) -> None:
    for one in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(one, signal.SIGKILL)
