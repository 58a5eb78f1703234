"""Copies files of report folders, and nothing that is outside of them."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from pytest_smoke.errors import MergeError
from pytest_smoke.files import NOT_REGULAR, read_failure
from pytest_smoke.plain import plain_name

CopyFile = Callable[[Path, Path], None]


def copy(folder: Path, relative: str, target: Path, *, link: bool = False) -> bool:
    """Copy a file or folder of a report folder to the same place below `target`; return whether it is there.

    `link`: make hard links where the file system allows it, for files that nothing changes in place. Symbolic links
    are not followed. One within a result stays as it is if it cannot lead out of it. Raises MergeError for all others,
    and for what is neither a file nor a folder; OSError if `target` cannot be written to.
    """
    path = folder
    for part in relative.split("/"):
        path /= part
        kind = _kind(path)
        if kind is None:
            return False
        if stat.S_ISLNK(kind):
            raise MergeError(f"{plain_name(str(path))} is a symbolic link: a merge copies only what is in the folder")
    (target / relative).parent.mkdir(parents=True, exist_ok=True)
    _copy(path, target / relative, _link_file if link else _copy_file)
    return True


def _copy(path: Path, target: Path, copy_file: CopyFile) -> None:
    kind = _kind(path)
    name = plain_name(str(path))
    if kind is None:
        raise MergeError(f"{name} was removed while it was copied")
    if stat.S_ISLNK(kind):
        leads_to = os.readlink(path)
        if os.path.isabs(leads_to) or ".." in leads_to.split("/"):
            raise MergeError(f"{name} is a symbolic link that may lead out of the report folder: replace it by a file")
        os.symlink(leads_to, target)
    elif stat.S_ISDIR(kind):
        target.mkdir()
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            raise MergeError(f"{name} {read_failure(error)}") from None
        for one in names:
            _copy(path / one, target / one, copy_file)
    elif stat.S_ISREG(kind):
        copy_file(path, target)
    else:
        raise MergeError(f"{name} is {NOT_REGULAR}")


def _kind(path: Path) -> int | None:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MergeError(f"{plain_name(str(path))} {read_failure(error)}") from None


def _link_file(path: Path, target: Path) -> None:
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:  # another file system, or the file of another user
        _copy_file(path, target)


def _copy_file(path: Path, target: Path) -> None:
    """Copy content, permissions and time of change."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise MergeError(f"{plain_name(str(path))} {read_failure(error)}") from None
    with open(handle, "rb") as source, open(target, "xb") as copied:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise MergeError(f"{plain_name(str(path))} is {NOT_REGULAR}")
        shutil.copyfileobj(source, copied)
        copied.flush()
        os.fchmod(copied.fileno(), status.st_mode & 0o777 | stat.S_IWUSR)
        os.utime(copied.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
