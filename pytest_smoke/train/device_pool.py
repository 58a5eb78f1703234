"""Devices that the processes of one machine take turns at. Imports no torch.

A device is divided into slots, and each slot is a file that its user has locked with `flock`. The system releases a
lock when the last process that has it ends, however it ends: nobody has to notice that a worker died, or to know the
name of the worker that replaces it. Who waits has a numbered ticket, a locked file as well, and holds nothing. Devices
are taken all at once, by the oldest ticket of those that could use one of them: so nobody is passed over for ever, and
nobody waits for somebody who waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_smoke.files import strict_json

SLOTS = 8
"""Slots of a device: so many smoke runs share it at most."""
CONTEXT_GIB = 0.5
"""Memory that each process takes on a device in addition to its tensors: a CUDA context with its kernels."""
POLL_SECONDS = 0.1
"""Time between two looks at whether it is a ticket's turn: a small part of the time that a process needs to start."""
MUTEX, TICKET = "mutex", ".ticket"
HELD = "PYTEST_SMOKE_HELD_SLOTS"
"""Environment variable with the files of the slots that a process's run has; the process locks them as well."""
VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
"""Environment variables that tell a process which devices there are. The second one has precedence, with ROCm."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one smoke run needs: `amount` of some devices, and so many slots of each."""

    amount: int
    slots: Mapping[str, int]
    """Slots of each device that it could use, by the device's key; the preferred ones first."""

    def competes_with(self, other: Need) -> bool:
        """Tell whether there is a device that both could use."""
        return not self.slots.keys().isdisjoint(other.slots)


def slots_needed(memory_gib: float, device_memory_gib: float) -> int:
    """Return the slots of a device for a run that needs `memory_gib`: all of them unless that is less than its half.

    0 is a need that nobody has declared. The sum of what the runs on a device need is never more than it has.
    """
    if not 0 < memory_gib < device_memory_gib / 2:
        return SLOTS
    return min(SLOTS, math.ceil(SLOTS * (memory_gib + CONTEXT_GIB) / device_memory_gib))


def grant(need: Need, earlier: Iterable[Need], free: Mapping[str, Sequence[int]]) -> dict[str, list[int]] | None:
    """Return the slots that a need gets now, by device; None if it has to wait.

    It waits for every earlier need that it competes with, and then until it can have all that it needs at once. Devices
    that nobody uses come first, because runs that share one slow each other down.
    """
    if any(need.competes_with(other) for other in earlier):
        return None
    fitting = [key for key, slots in need.slots.items() if len(free.get(key, ())) >= slots]
    if len(fitting) < need.amount:
        return None
    chosen = sorted(fitting, key=lambda key: -len(free[key]))[: need.amount]
    return {key: list(free[key][: need.slots[key]]) for key in need.slots if key in chosen}


class DevicePool:
    """The devices of a machine, as the files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def held(self, need: Need, on_wait: Callable[[], object] = bool) -> Iterator[Mapping[str, list[int]]]:
        """Wait for what a run needs, and hold it; yield the slots of each device.

        `on_wait` is called once if it has to wait. Raises OSError if the files cannot be made or locked.
        """
        with self._granted(need, on_wait) as (granted, stack), stack:
            yield granted

    def paths(self, granted: Mapping[str, Sequence[int]]) -> list[Path]:
        """Return the files of slots."""
        return [self._folder / f"{key}.{slot}" for key, slots in granted.items() for slot in slots]

    @contextmanager
    def _granted(
        self, need: Need, on_wait: Callable[[], object]
    ) -> Iterator[tuple[Mapping[str, list[int]], ExitStack]]:
        with ExitStack() as slots:
            with self._ticket(need) as number:
                while (granted := self._take(need, number, slots)) is None:
                    on_wait()
                    on_wait = bool
                    time.sleep(POLL_SECONDS)
            yield granted, slots.pop_all()

    def _take(self, need: Need, number: int, stack: ExitStack) -> Mapping[str, list[int]] | None:
        """Lock the slots of a need if it is its turn; closing `stack` releases them."""
        with self._mutex(), ExitStack() as taken:
            handles = {
                (key, slot): handle
                for key in need.slots
                for slot in range(SLOTS)
                if (handle := _lock(self._folder / f"{key}.{slot}", taken)) is not None
            }
            free = {key: [slot for slot in range(SLOTS) if (key, slot) in handles] for key in need.slots}
            granted = grant(need, self._earlier(number), free)
            for key, slots in (granted or {}).items():
                for slot in slots:
                    # From now on shared, so that the training process can have it, too: nobody else locks without the
                    # mutex, and whoever has it needs the lock alone.
                    kept = os.dup(handles[key, slot])
                    stack.callback(os.close, kept)
                    fcntl.flock(kept, fcntl.LOCK_SH)
        return granted

    @contextmanager
    def _ticket(self, need: Need) -> Iterator[int]:
        with ExitStack() as stack:
            with self._mutex():
                number = max((_number(path) for path in self._folder.glob(f"*{TICKET}")), default=0) + 1
                path = self._folder / f"{number}{TICKET}"
                handle = _lock(path, stack)
                assert handle is not None
                stack.callback(path.unlink, missing_ok=True)  # before it is unlocked
                os.write(handle, strict_json([need.amount, need.slots]).encode())
            yield number

    def _earlier(self, number: int) -> list[Need]:
        """Return the needs of tickets before this one, and remove those whose process has ended."""
        needs = []
        for path in self._folder.glob(f"*{TICKET}"):
            if _number(path) >= number:
                continue
            with ExitStack() as stack, contextlib.suppress(FileNotFoundError):
                if _lock(path, stack, flags=os.O_RDWR) is not None:
                    path.unlink(missing_ok=True)
                    continue
                amount, slots = json.loads(path.read_bytes())
                needs.append(Need(amount, slots))
        return needs

    @contextmanager
    def _mutex(self) -> Iterator[None]:
        handle = os.open(self._folder / MUTEX, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def shared_folder(base: Path | None = None) -> Path:
    """Return the folder of the locks of this user on this machine, the same one for all sessions. Raises OSError.

    Not in TMPDIR, which CI systems and Slurm set for each job. Not a folder that somebody else has made there.
    """
    memory = Path("/dev/shm")
    base = base or (memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir()))
    folder = base / f"pytest-smoke-devices-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not folder.is_dir() or folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise OSError(f"{folder} is not a folder that only this user can write to: remove it")
    return folder


@contextmanager
def environment_of(
    paths: Sequence[Path], indices: Sequence[int], environment: MutableMapping[str, str] = os.environ
) -> Iterator[None]:
    """Make the processes that are started in the block see only the CUDA devices `indices`, and hold `paths`.

    Indices count the devices that this process sees. Without indices, the devices stay as they are.
    """
    changed = {HELD: strict_json([str(path) for path in paths])}
    if indices:
        for name in VISIBLE:
            if name == VISIBLE[0] or name in environment:
                changed[name] = visible_devices(indices, environment.get(name))
    before = {name: environment.get(name) for name in changed}
    environment.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = value


def visible_devices(indices: Sequence[int], seen: str | None) -> str:
    """Return what makes only `indices` of the devices visible that `seen` makes visible; None: all of the machine."""
    names = [name.strip() for name in seen.split(",")] if seen is not None else []
    return ",".join(names[index] if index < len(names) else str(index) for index in indices)


_kept: list[int] = []
"""Locked files of this process, which stay open until it ends."""


def hold_slots_of_run(environment: MutableMapping[str, Any]) -> None:
    """Hold the slots of this process's run until it ends: it may outlive the pytest process for a moment."""
    for path in json.loads(environment.pop(HELD, "[]")):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            _kept.append(handle)
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _lock(path: Path, stack: ExitStack, *, flags: int = os.O_RDWR | os.O_CREAT) -> int | None:
    """Lock a file until `stack` is closed; return its handle, None if another process has locked it."""
    handle = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        os.close(handle)
        raise
    stack.callback(os.close, handle)
    return handle


def _number(path: Path) -> int:
    name = path.name.removesuffix(TICKET)
    return int(name) if name.isdecimal() else 0
