"""The part of a file that a command writes during its run, read again and again as a log."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from pytest_smoke.errors import LogError
from pytest_smoke.logs.log import ColumnNames, Log
from pytest_smoke.logs.read import read_bytes

MAX_BYTES = 2**28
"""Largest log that is read, 256 MiB: with 100 bytes per line, 2.7 million lines."""
TAIL_BYTES = 4096
"""Bytes at the end of what was in the file before, by which it is recognized."""
FILTERED_BYTES = 2**20
"""Logs up to this size are read as they are."""
LONG_LINE = 300
"""Bytes of a line that is no header of a table: these fit a screen."""
_NUMBER = re.compile(rb"[0-9]|nan|inf", re.IGNORECASE)
HEADED = (".csv", ".tsv")
"""Files whose first line names the columns, also of rows that are appended later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Before:
    """What a file held before the command started."""

    inode: int
    size: int
    stamp: int
    tail: bytes
    header: bytes
    """First line, if it names the columns of all rows."""


class GrowingLog:
    """A log that a command appends to, replaces or makes; what an earlier run left in it is left out."""

    def __init__(self, path: str, names: ColumnNames) -> None:
        """Remember what the file holds now. Call this before the command starts."""
        self.path, self._names = path, names
        self._before = _before(path)
        self._seen: tuple[int, int, bool] | None = None
        self.problem: LogError | None = None
        """Why the newest read gave no log."""
        self.text = b""
        """What the newest read found."""

    @property
    def is_old(self) -> bool:
        """Whether the file is still what it was before the command started."""
        state = _stat(self.path)
        before = self._before
        return before is not None and state is not None and (state.st_size, state.st_mtime_ns) == _key(before)

    @property
    def grown_bytes(self) -> int:
        """Bytes that the command has written; 0 if the log is a folder or does not exist."""
        state = _stat(self.path)
        return self._grown(state) if state is not None and not stat.S_ISDIR(state.st_mode) else 0

    def _grown(self, state: os.stat_result) -> int:
        before = self._before
        return state.st_size - (before.size if before is not None and before.inode == state.st_ino else 0)

    def read(self, *, is_complete: bool) -> Log | None:
        """Return the log as far as it is written, by whole lines unless it `is_complete`; None if it did not change.

        None also if it cannot be read as a log (yet); then `problem` says why.
        """
        state = _stat(self.path)
        if state is None:
            self.problem = None
            return None
        seen = (state.st_size, state.st_mtime_ns, is_complete)
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            if self._grown(state) > MAX_BYTES:
                raise LogError("too-large", f"the log has more than {MAX_BYTES // 2**20} MiB; print less often")
            if stat.S_ISDIR(state.st_mode):
                raise LogError("unreadable", "this is a folder; name a text file in it")
            if not stat.S_ISREG(state.st_mode):  # to open it may block for ever
                raise LogError("unreadable", "this is a pipe or a device, which cannot be read again; name a text file")
            self.text = self._bytes(state)
            whole = _relevant(self.text if is_complete else _whole_lines(self.text))
            log = read_bytes(self.path, whole, self._names)
        except LogError as error:
            self.problem = error
            return None
        except OSError as error:
            self.problem = LogError("unreadable", f"cannot be read: {error.strerror or error}")
            return None
        self.problem = None
        return log

    def _bytes(self, state: os.stat_result) -> bytes:
        """Return what the command wrote: everything after the earlier content, or the whole file if it was replaced."""
        before = self._before
        with open(self.path, "rb") as file:
            if before is not None and not self._is_appended(before, state, file.fileno()):
                before = self._before = None
            if before is None:
                return file.read(MAX_BYTES)
            file.seek(before.size)
            added = file.read(MAX_BYTES)
        return added if not added.strip() or added.startswith(before.header) else before.header + added

    def _is_appended(self, before: _Before, state: os.stat_result, file: int) -> bool:
        if state.st_ino != before.inode or state.st_size < before.size:
            return False
        if state.st_size == before.size and state.st_mtime_ns != before.stamp:
            return False  # as many bytes as before, and written since: another run of the same length
        return os.pread(file, len(before.tail), before.size - len(before.tail)) == before.tail


def _before(path: str) -> _Before | None:
    state = _stat(path)
    if state is None or not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            header = file.readline(TAIL_BYTES) if path.lower().endswith(HEADED) else b""
            length = min(TAIL_BYTES, state.st_size)
            tail = os.pread(file.fileno(), length, state.st_size - length)
    except OSError:
        return None
    return _Before(inode=state.st_ino, size=state.st_size, stamp=state.st_mtime_ns, tail=tail, header=header)


def _key(before: _Before) -> tuple[int, int]:
    return before.size, before.stamp


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _whole_lines(data: bytes) -> bytes:
    """Drop a last line that is still being written; a progress bar ends its lines with a carriage return."""
    is_document = data.lstrip()[:1] in (b"{", b"[") and data.rstrip()[-1:] in (b"}", b"]")
    return data if is_document else data[: max(data.rfind(b"\n"), data.rfind(b"\r")) + 1]


def _relevant(data: bytes) -> bytes:
    """Shorten the long lines of a large log that hold no number: reading one takes 0.5 ms."""
    if len(data) <= FILTERED_BYTES:
        return data
    return b"\n".join(line if len(line) <= LONG_LINE or _NUMBER.search(line) else b"." for line in data.split(b"\n"))


def last_lines(path: Path, *, lines: int, size: int) -> str:
    """Return the newest lines of a file, out of its last `size` bytes; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            text = file.read(size).decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.replace("\r", "\n").splitlines()[-lines:])
