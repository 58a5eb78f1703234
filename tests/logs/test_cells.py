"""Numbers as text, and readers whose time grows with the length of a line, not with its square."""

from __future__ import annotations

import contextlib
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.errors import LogError
from pytest_smoke.logs.cells import NUMBER, number
from pytest_smoke.logs.log import ColumnNames
from pytest_smoke.logs.read import read_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("150,100", 150_100),
        ("1,234,567.5", 1_234_567.5),
        ("2,31", 2.31),
        ("0,123", 0.123),
        ("-2,5e-3", -0.0025),
        ("80/240", 80),
        ("tensor(2.5, device='cuda:0')", 2.5),
        ("np.float64(2.5)", 2.5),
        ("[0.001]", 0.001),
        ("'2.5'", 2.5),
        ("\N{MINUS SIGN}2.5", -2.5),
        ("1.#INF", math.inf),
        ("-inf", -math.inf),
        ("No log", None),
        ("", None),
        ("n/a", None),
    ],
)
def test_a_cell_is_read_as_its_number(text: str, value: float | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", ["nan", "NaN.", "-nan(ind)", "1.#QNAN", "-1.#IND00"])
def test_every_spelling_of_nan_is_nan(text: str) -> None:
    found = number(text)
    assert found is not None
    assert math.isnan(found)


@pytest.mark.parametrize("text", ["oops", "6.18G", "2024-01-01", "[0] train", "(a)", "1/2/3", "x" * 1000])
def test_other_text_is_no_number(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the message is Python's own
        number(text)


def test_a_single_comma_before_three_digits_depends_on_the_log() -> None:
    assert number("1,234") == 1234
    assert number("1,234", decimal_comma=True) == 1.234


@given(st.one_of(st.floats(allow_nan=False), st.integers(-(10**9), 10**9)))
def test_a_printed_number_is_one_token_with_its_value(value: float) -> None:
    before, token, after = NUMBER.split(f"loss: {value!r} |")
    assert (before, float(token), after) == ("loss: ", float(value), " |")


@given(st.text(alphabet="1-+.,eEnaif#%/:= |[](){}\"'losste", max_size=200))
def test_splitting_at_numbers_loses_nothing(text: str) -> None:
    assert "".join(NUMBER.split(text)) == text


SHORT, LONG = 10_000, 160_000
GROWTH = LONG / SHORT
FRAGMENTS = [
    *(
        "1",
        "1.",
        "1,",
        "1,000,",
        "1e",
        "1_",
        "-",
        "nan",
        "a=",
        "a:",
        "loss ",
        "loss=1 ",
        "[",
        "]",
        "(",
        "{'",
        "{'a':1,",
    ),
    *(
        "|",
        "| a ",
        "--",
        "=  ",
        "/",
        "1/2 ",
        "1:1:1 ",
        "1%|",
        "loss is ",
        "nan loss ",
        "a.py:1 ",
        "a/",
        "a:b:1 - ",
        "\x1b[",
    ),
    *("'", "#1", "\t", "  ", "tensor(1, ", "loss at step ", "\u2502", "_", "test ", "Jan 1 "),
]


def seconds_for(text: str) -> float:
    started = time.process_time()
    with contextlib.suppress(LogError):
        read_text("x.log", text, ColumnNames())
    return time.process_time() - started


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_the_time_for_a_line_grows_with_its_length_and_not_with_its_square(fragment: str) -> None:
    """A line 16 times as long may take up to 4 x 16 times as long; a quadratic reader takes 256 times as long."""
    short, long = ("step 1 loss 2 " + fragment * (size // len(fragment)) + "\n" for size in (SHORT, LONG))
    floor = 0.005  # the resolution of the clock and the work per log must not count
    assert seconds_for(long) < 4 * GROWTH * max(floor, min(seconds_for(short) for _ in range(3)))
