"""Keep the two ends of what a task prints while pytest captures it: captured output is held in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

KEPT_CHARS = 2**18
"""Characters that are kept of each end: some thousand lines."""


@contextmanager
def bounded_output() -> Iterator[None]:
    """Bound what is written to `sys.stdout` and `sys.stderr`, each to its first and its last `KEPT_CHARS`."""
    before = sys.stdout, sys.stderr
    bounded = [_Bounded(stream) for stream in before]
    sys.stdout, sys.stderr = bounded
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in bounded:
            stream.write_end()


class _Bounded:
    """A text stream that passes the first characters on, and keeps the last ones."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._passed = self._left_out = self._chars = 0
        self._end: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write to the stream, or keep the text for its end."""
        passed = text[: max(0, KEPT_CHARS - self._passed)]
        if passed:
            self._passed += len(passed)
            self._stream.write(passed)
        self._end.append(text[len(passed) :])
        self._chars += len(text) - len(passed)
        if self._chars > 2 * KEPT_CHARS:
            self._shorten()
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts."""
        for line in lines:
            self.write(line)

    def write_end(self) -> None:
        """Write the kept end, and how much was left out before it."""
        self._shorten()
        if self._left_out:
            self._stream.write(f"\n[... {self._left_out:,} characters left out ...]\n")
        self._stream.write("".join(self._end))

    def _shorten(self) -> None:
        end = "".join(self._end)[-KEPT_CHARS:]
        self._left_out += self._chars - len(end)
        self._end, self._chars = [end], len(end)
