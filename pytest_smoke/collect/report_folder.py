"""The report folder of a session: locked while the session lives, and its `verdicts.json` kept up to date."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_smoke.collect.kept_outcomes import KeptOutcomes
from pytest_smoke.errors import SmokeError
from pytest_smoke.files import (
    BISECT,
    LOCK,
    NOT_REGULAR,
    STALE,
    VERDICTS,
    VERDICTS_SCHEMA,
    read_json,
    write_atomic,
)
from pytest_smoke.monitor.artifacts import earlier_results
from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe_texts import restored_outcomes
from pytest_smoke.report.verdicts_json import verdicts_of_trees, verdicts_parts

UNREADABLE = f"unreadable-{VERDICTS}"
"""Name in `stale` of a `verdicts.json` whose outcomes cannot be read."""
HALF_WRITTEN = (
    *(f".{VERDICTS}.*", f"{STALE}/.{VERDICTS}.*"),
    *("traces/.*", "predictions/.*.partial", "packages/.*.partial", "tensorboard/*/.*"),
    *("receipts/.*", "receipts/refused/.*"),
    *(f"checkpoints/*/.{name}.*" for name in ("trained", "last-good", "checked", "step-*")),
)
"""Names under which files are written before they are renamed."""
WRITE_SHARE = 0.05
"""Share of the time in which outcomes arrive that may go into writing them, so that thousands of them stay cheap."""
PREFLIGHT_WRITE_SHARE = 0.005
"""The same in a session that only preflights: what it loses when it is killed is made again in milliseconds."""


def lock(folder: Path) -> Callable[[], None]:
    """Lock a report folder for this process; return a function that unlocks it.

    The system releases the lock when the process ends, however it ends. Raises SmokeError if another process has it, or
    if a link in the folder leads out of it, and OSError if the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    refuse_links(folder)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        _lock(handle, folder)
    except BaseException:
        os.close(handle)
        raise
    return lambda: os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise OSError(errno.EINVAL, NOT_REGULAR, str(folder / LOCK))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(handle, 40).decode(errors="replace").strip()
        process = f" (process {owner})" if owner.isdecimal() else ""
        raise SmokeError(
            f"another pytest session{process} is writing to {folder}: wait for it, or name another folder"
        ) from None
    except OSError:
        return  # a file system without locks: a second session is not noticed
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())


def refuse_links(folder: Path) -> None:
    """Raise SmokeError if a symbolic link in a report folder leads out of it: files there would be written and removed.

    Also for one that leads nowhere but to itself. The folder itself may be a link.
    """
    root = os.path.realpath(folder)
    for above, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(above, name)
            if not os.path.islink(path):
                continue
            shown = folder / os.path.relpath(path, root)
            if _is_loop(path):
                raise SmokeError(f"{shown} is a symbolic link that leads to itself: remove it")
            if not os.path.realpath(path).startswith(os.path.join(root, "")):
                raise SmokeError(
                    f"{shown} is a symbolic link to {os.readlink(path)}, outside of the report folder, where nothing "
                    "must be written or removed: remove the link, or name another report folder"
                )


def _is_loop(link: str) -> bool:
    try:
        os.stat(link)
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def sweep(folder: Path) -> None:
    """Remove what a killed session left half-written in a report folder that this session has locked."""
    for pattern in HALF_WRITTEN:
        for path in folder.glob(pattern):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def set_aside(folder: Path, *, bisect: bool) -> None:
    """Move what earlier sessions left in a report folder to `stale`, so that the rest is from this session.

    Of files with the same name, `stale` keeps the newest; of outcomes, the newest of each id. What is compared with the
    recipes before it is used stays: receipts, what `--smoke-resume` continues from and, for a `bisect`, its verdicts.
    Raises OSError.
    """
    _set_aside_outcomes(folder)
    for relative in earlier_results(folder):
        _move(folder / relative, folder / STALE / relative)
        with contextlib.suppress(OSError):  # one is not empty: a run can be resumed from it, say
            for parent in Path(relative).parents[:-1]:
                (folder / parent).rmdir()
    here, aside = folder / BISECT, folder / STALE / BISECT
    if not bisect:
        _move(here, aside)
    elif not here.exists():
        _move(aside, here)


def _set_aside_outcomes(folder: Path) -> None:
    """Move the outcomes in `verdicts.json` to that of `stale`, to those of other ids, which a killed session kept."""
    path, aside = folder / VERDICTS, folder / STALE / VERDICTS
    if not path.is_file():
        return
    outcomes = _read_outcomes(path)
    if outcomes is None:
        _move(path, folder / STALE / UNREADABLE)
        return
    older = _read_outcomes(aside) if aside.is_file() else {}
    if older is None:
        _move(aside, folder / STALE / UNREADABLE)
        older = {}
    if outcomes and outcomes.keys() >= older.keys():  # as they are: writing takes ten times as long as reading
        _move(path, aside)
        return
    if outcomes:
        write_atomic(aside, verdicts_of_trees((older | outcomes).values()))
    path.unlink()


def _read_outcomes(path: Path) -> dict[str, Any] | None:
    """Return the outcomes in a file by id; None if the file is not one of this version."""
    try:
        tree = read_json(path)
        if tree["schema"] != VERDICTS_SCHEMA:
            return None
        return {str(one["id"]): one for one in restored_outcomes(tree)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _move(path: Path, target: Path) -> None:
    """Move a file or folder, also to another file system; an older one at `target` is removed."""
    if not path.exists():
        return
    if target.is_dir():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)


class VerdictsFile:
    """Keeps `verdicts.json` up to date, without writing it whole for each of thousands of outcomes.

    Writing takes at most `write_share` of the time; what has to wait is written by a timer as soon as that allows it.
    """

    def __init__(self, folder: Path, *, write_share: float = WRITE_SHARE) -> None:
        self._path, self._write_share = folder / VERDICTS, write_share
        self.outcomes = KeptOutcomes()
        """What is in the file, or will be soon."""
        self.problem = ""
        """Why the file could not be written the last time; empty if it was."""
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._next = 0.0
        self._unwritten = False

    def add(self, outcome: Outcome, tree: Mapping[str, Any] | None = None) -> None:
        """Add an outcome, and write the file now or soon. `tree`: its `to_dict`, where that is known already."""
        with self._lock:
            self.outcomes.add(outcome, tree)
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
        write_atomic(self._path, verdicts_parts((), {}))

    def _write(self) -> None:
        started = time.monotonic()
        try:
            write_atomic(self._path, verdicts_parts(self.outcomes.texts(), self.outcomes.recipe_texts))
        except OSError as error:
            self.problem = f"{self._path} could not be written: {error.strerror or error}"
        else:
            self.problem, self._unwritten = "", False
        ended = time.monotonic()
        self._next = ended + (ended - started) / self._write_share
