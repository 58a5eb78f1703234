"""Where the text of a log comes from: a file, standard input, or a string. It is read line by line, more than once."""

from __future__ import annotations

import io
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, TextIO

from pytest_smoke.errors import LogError
from pytest_smoke.files import read_failure

STDIN = "-"
HEAD_CHARS = 65_536
"""Characters at the beginning of a log that its format is recognized by."""
MAX_LINE_CHARS = 1 << 24
"""A longer line is read in pieces, so that a file without line ends needs no more memory than this."""
_SNIFFED_BYTES = 4096
_KEPT_BYTES = 1 << 26
"""Standard input of up to this size is kept in memory, more of it in a temporary file."""


class Source:
    """The text of one log."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self.head = text.read(HEAD_CHARS)
        self.is_whole = len(self.head) < HEAD_CHARS
        """Whether `head` is the whole text."""

    def lines(self) -> Iterator[str]:
        """Return the lines with their ends; a carriage return, as of a progress bar, ends a line as well."""
        self._text.seek(0)
        read = self._text.readline
        return iter(lambda: read(MAX_LINE_CHARS), "")

    def text(self) -> str:
        """Return the whole text."""
        if self.is_whole:
            return self.head
        self._text.seek(0)
        return self._text.read()

    def close(self) -> None:
        """Close the file."""
        self._text.close()


def of_text(text: str) -> Source:
    """Return a text as the source of a log."""
    return Source(io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n")))


def of_bytes(data: bytes) -> Source:
    """Return what a file holds as the source of a log. Raises LogError for anything but text."""
    return Source(_decoded(io.BytesIO(data)))


def open_source(path: str) -> Source:
    """Open a log. Raises LogError if it cannot be read, is binary, or is no regular file."""
    try:
        return Source(_decoded(_stdin() if path == STDIN else _file(path)))
    except OSError as error:
        raise LogError("unreadable", read_failure(error)) from None


def is_regular(path: str) -> bool:
    """Whether a path is a regular file, which reading never blocks on."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def whole_lines(text: str) -> str:
    """Drop a last line that is still being written."""
    is_document = text.lstrip()[:1] in ("{", "[") and text.rstrip()[-1:] in ("}", "]")
    return text if is_document else text[: text.rfind("\n") + 1]


def check_regular(path: str) -> None:
    """Raise LogError if a path is a pipe, a device or a socket: reading it may never end. Raises OSError."""
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # a null byte in the path
        raise LogError("unreadable", f"cannot be read: {error}") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "not a regular file")
        raise LogError("unreadable", f"this is {kind}, not a file: `judge -` judges what it yields on standard input")


def _file(path: str) -> IO[bytes]:
    check_regular(path)
    return open(path, "rb")


def _stdin() -> IO[bytes]:
    """Return what standard input holds, as a file that can be read again."""
    if sys.stdin is None:
        raise LogError("unreadable", "standard input is closed")
    kept = tempfile.SpooledTemporaryFile(max_size=_KEPT_BYTES)  # noqa: SIM115  # closed with its source
    while piece := sys.stdin.buffer.read(1 << 20):
        kept.write(piece)
    kept.seek(0)
    return kept


def _decoded(binary: IO[bytes]) -> TextIO:
    sniffed = binary.read(_SNIFFED_BYTES)
    binary.seek(0)
    encoding = "utf-8-sig"
    if sniffed[:2] in (b"\xff\xfe", b"\xfe\xff"):  # what PowerShell's `>` writes
        encoding = "utf-16"
    elif sniffed[:2] == b"\x1f\x8b":
        binary.close()
        raise LogError(
            "unreadable", "the log is compressed: unpack it, or pipe it to standard input (zcat LOG | ... judge -)"
        )
    elif b"\0" in sniffed:
        binary.close()
        raise LogError("unreadable", "the log is not a text file")
    return io.TextIOWrapper(binary, encoding=encoding, errors="replace", newline=None)
