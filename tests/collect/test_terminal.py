"""The lines below pytest's output, as a terminal shows them (`pyte` is one)."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import tty
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pyte
import pytest
from _pytest._io import TerminalWriter
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_smoke.collect.terminal import Terminal, cursor_column

COLUMNS, LINES = 30, 8


class Shown:
    """A terminal of 30 columns and 8 lines, what pytest writes to it, and what it shows."""

    def __init__(self) -> None:
        self._master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        self.resize(COLUMNS, LINES)
        self._file = os.fdopen(slave, "w", encoding="utf-8", buffering=1)
        self.writer = TerminalWriter(self._file)
        self.screen = pyte.Screen(COLUMNS, LINES)
        self.screen.set_mode(pyte.modes.LNM)  # the terminal's driver would turn a line feed into both
        self.terminal = Terminal(SimpleNamespace(_tw=self.writer))

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def lines(self) -> list[str]:
        """Return the lines on the screen, without empty ones at the end."""
        stream: Any = pyte.ByteStream(self.screen)
        while True:
            try:
                stream.feed(os.read(self._master, 65536))
            except BlockingIOError:
                break
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().split("\n")

    def close(self) -> None:
        self.terminal.close()
        self._file.close()
        os.close(self._master)


@pytest.fixture
def shown() -> Iterator[Shown]:
    terminal = Shown()
    yield terminal
    terminal.close()


def test_dots_go_on_where_they_were_and_the_lines_stay_below(shown: Shown) -> None:
    shown.writer.write("a.py .")
    shown.terminal.draw(["one", "two"])
    assert shown.lines() == ["a.py .", "one", "two"]
    shown.writer.write(".", green=True)
    shown.terminal.draw(["three"])
    assert shown.lines() == ["a.py ..", "three"]
    shown.writer.line("  [100%]")
    assert shown.lines() == ["a.py ..  [100%]"]


def test_the_lines_move_down_with_the_output_at_the_end_of_the_screen(shown: Shown) -> None:
    for number in range(7):
        shown.writer.line(f"test {number}")
        shown.terminal.draw(["a", "b"])
    shown.writer.write("test 7 ")
    shown.terminal.draw(["a", "b", "c"])
    shown.writer.line("PASSED")
    assert shown.lines() == [*(f"test {number}" for number in range(3, 7)), "test 7 PASSED"]


def test_what_others_print_goes_on_where_pytest_was_and_the_next_drawing_clears_the_rest(shown: Shown) -> None:
    shown.writer.write("test ")
    shown.terminal.draw(["lines"])
    os.write(shown._file.fileno(), b"printed\n")
    shown.terminal.draw(["lines"])
    assert "test printed" in shown.lines()[0]


def test_a_terminal_that_became_narrower_keeps_no_rest_of_the_lines(shown: Shown) -> None:
    shown.writer.write("a.py ..........")
    shown.terminal.draw(["x" * (COLUMNS - 1)] * 2)
    shown.lines()
    shown.resize(12, LINES)
    shown.screen.resize(LINES, 12)
    shown.terminal.draw(["y" * 11])
    shown.terminal.erase()
    assert not {"x", "y"} & set("".join(shown.lines()))


def test_a_line_that_stays_comes_before_the_one_that_pytest_is_writing(shown: Shown) -> None:
    shown.writer.write("a.py::test_a ")
    shown.terminal.add_line("smoke: 1 of 2")
    shown.writer.line("PASSED")
    shown.terminal.add_line("smoke: 2 of 2")
    assert shown.lines() == ["a.py::test_a", "smoke: 1 of 2", "a.py::test_a PASSED", "smoke: 2 of 2"]


def test_the_stream_is_given_back(shown: Shown) -> None:
    shown.terminal.draw(["lines"])
    shown.terminal.close()
    assert shown.writer._file is shown._file
    assert shown.lines() == [""]


@example(["界", "a" * 19 + "界" * 5])
@given(st.lists(st.text(st.sampled_from("aé界.\u0301"), max_size=70) | st.just("\n"), max_size=6))
def test_the_screen_is_the_same_as_without_the_lines(texts: list[str]) -> None:
    """Whatever pytest writes, of whatever width."""
    plain, drawn = Shown(), Shown()
    try:
        for text in texts:
            plain.writer.write(text)
            drawn.writer.write(text)
            drawn.terminal.draw(["one"])
        drawn.terminal.erase()
        expected, found = plain.lines(), drawn.lines()
        if len(expected) < LINES:  # the lines may have scrolled the screen
            assert found == expected
    finally:
        plain.close()
        drawn.close()


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("abc", 3),
        ("\x1b[31mred\x1b[0m", 3),
        ("\x1b]9;4;1;50\x1b\\x", 1),
        ("界", 2),
        ("e\u0301", 1),
        ("", 0),
        ("a" * 10, 10),
        ("a" * 11, 1),
        ("a" * 9 + "界", 10),
        ("a" * 9 + "界a", 10),
        ("a" * 8 + "界", 10),
    ],
)
def test_the_column_after_a_text_in_ten_columns(text: str, column: int) -> None:
    assert cursor_column(text, 10) == column
