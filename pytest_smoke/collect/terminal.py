"""A few lines below what pytest writes to a terminal, which do not get in its way."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import unicodedata
from collections.abc import Sequence
from typing import Any

ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
"""An escape sequence: of colours and movements, and of titles and progress bars of the terminal's window."""
ERASE_BELOW = "\x1b[J"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
WRAP_OFF, WRAP_ON = "\x1b[?7l", "\x1b[?7h"
KEPT_CHARACTERS = 4096
"""Of the line that pytest is writing: enough for every terminal's width."""


class Terminal:
    """The stream that pytest's reporter writes to, with lines of ours below.

    Between two writes of pytest, the cursor is where pytest left it, and our lines are below. So they are erased in one
    way, whatever the terminal's size has become; and what somebody else prints continues where pytest was. Writing to a
    copy of the file descriptor needs no regard for pytest's capture, and may come from another thread.
    """

    def __init__(self, reporter: Any) -> None:
        """Take the stream of a `TerminalReporter`, until `close`. Raises OSError and AttributeError without a file."""
        self._writer = reporter._tw  # pytest has no public name for its stream
        self._stream = self._writer._file
        self._stream.flush()
        self._descriptor = os.dup(self._stream.fileno())
        self._lock = threading.RLock()
        self._line: str = self._writer._current_line
        """What pytest has written since the newest line break."""
        self._is_drawn = False
        self._writer._file = _Tee(self._stream, self)

    @property
    def encoding(self) -> str:
        """Encoding of the terminal."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def size(self) -> os.terminal_size:
        """Columns and lines now; 80 and 24 if they are not known."""
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(self._descriptor)
            if size.columns and size.lines:
                return size
        return shutil.get_terminal_size((80, 24))

    def draw(self, lines: Sequence[str]) -> None:
        """Put lines below what pytest has written, in the place of those before; none of them may be wider."""
        with self._lock:
            columns = self.size.columns
            column = cursor_column(self._line, columns)
            if column == columns:
                return  # it could not be put there again
            down = "\r\n" if column else ""
            up = len(lines) - (not column)
            back = (f"\x1b[{up}A" if up else "") + "\r" + (f"\x1b[{column}C" if column else "")
            text = f"{HIDE_CURSOR}{WRAP_OFF}{ERASE_BELOW}{down}" + "\r\n".join(lines) + f"{back}{WRAP_ON}{SHOW_CURSOR}"
            self._is_drawn = self._put(text)

    def erase(self) -> None:
        """Erase the lines."""
        with self._lock:
            if self._is_drawn:
                self._put(ERASE_BELOW)
                self._is_drawn = False

    def add_line(self, text: str) -> None:
        """Write a line that stays, before the one that pytest is writing."""
        with self._lock:
            self._put(f"\n{text}\n{self._line}" if self._line else f"{text}\n")

    def close(self) -> None:
        """Erase the lines and give the stream back."""
        with self._lock:
            self.erase()
            if isinstance(self._writer._file, _Tee):
                self._writer._file = self._stream
            with contextlib.suppress(OSError):
                os.close(self._descriptor)

    def write(self, text: str) -> int:
        """Write what pytest writes."""
        with self._lock:
            self.erase()
            written: int = self._stream.write(text)
            self._stream.flush()
            line = (self._line + text).rpartition("\n")[2]
            self._line = line.rstrip("\r").rpartition("\r")[2][-KEPT_CHARACTERS:]
            return written

    def _put(self, text: str) -> bool:
        """Write to the terminal at once; return whether that was possible."""
        data = text.encode(self.encoding, "replace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:  # it is closed, or set to write without waiting and busy
            return False
        return True


class _Tee:
    """Stands for the stream in pytest's writer."""

    def __init__(self, stream: Any, terminal: Terminal) -> None:
        self._stream, self._terminal = stream, terminal

    def write(self, text: str) -> int:
        return self._terminal.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def cursor_column(text: str, columns: int) -> int:
    """Return the column of the cursor after a text without line breaks, in a terminal of so many columns.

    It is `columns` if the text fills its last line, and if that is not known: a wide character takes two columns, and
    where one is left, terminals differ. Escape sequences and combining characters take none.
    """
    plain = ESCAPE.sub("", text)
    if plain.isascii():
        width = sum(char >= " " for char in plain)
        return (width - 1) % columns + 1 if width else 0
    column = 0
    for width in map(_columns, plain):
        column = column % columns if width else column
        if column + width > columns:
            return columns
        column += width
    return column


def _columns(char: str) -> int:
    if char < " " or unicodedata.combining(char) or unicodedata.category(char) in ("Cf", "Me", "Mn"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
