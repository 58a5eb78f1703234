"""Temporary folders that a killed session cannot leave behind for ever: the next one removes them. Imports no torch."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import util
from pathlib import Path

LOCK = ".smoke-lock"
"""File in a temporary folder that its process has locked as long as it lives."""
PREFIXES = ("smoke-", "pymp-")
"""Beginnings of the names of these folders: our own, and the one in which `multiprocessing` keeps its sockets."""


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """Yield a new folder `smoke-NAME*` in the temporary directory, and remove it on exit. Raises OSError.

    The first one in a process also removes what killed sessions left: one of commands alone starts no training process.
    """
    temporary = Path(tempfile.gettempdir())
    _remove_once(temporary)
    temporary.mkdir(parents=True, exist_ok=True)  # a task may have removed it
    folder = Path(tempfile.mkdtemp(prefix=f"smoke-{name}", dir=temporary))
    handle = _lock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)
        if folder.exists():  # too many files were open to look into it
            shutil.rmtree(folder, ignore_errors=True)


@cache
def clean_up_after_killed_sessions() -> None:
    """Remove what killed sessions left in the temporary directory, and lock the folder of `multiprocessing`.

    Once per process, before `multiprocessing` starts one.
    """
    _remove_once(Path(tempfile.gettempdir()))
    with contextlib.suppress(OSError):
        _lock(Path(util.get_temp_dir()))  # kept open: until the process ends


@cache
def _remove_once(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        remove_without_owner(temporary)


def remove_without_owner(temporary: Path) -> None:
    """Remove the folders in `temporary` whose process ended without removing them. Raises OSError.

    The system releases a lock when its process ends, so that the lock is free then. A folder without a lock file is not
    ours, or was just made: it stays.
    """
    for prefix in PREFIXES:
        for folder in temporary.glob(f"{prefix}*"):
            _remove_if_free(folder)


def _lock(folder: Path) -> int | None:
    """Make a locked lock file in a folder; return its handle, None on a file system without locks. Raises OSError.

    It gets its name once it is locked, so that nobody finds it free before.
    """
    unnamed = folder / f"{LOCK}.{os.getpid()}"
    handle = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        unnamed.unlink()
        return None
    unnamed.rename(folder / LOCK)
    return handle


def _remove_if_free(folder: Path) -> None:
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # no lock file, or of another user
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # its process lives
        pass
    finally:
        os.close(handle)
