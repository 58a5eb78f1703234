"""Numbers, lists, names and tables as text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.text import (
    closest,
    count,
    did_you_mean,
    file_size,
    listed,
    number,
    percent,
    printable,
    relative,
    seconds,
    signed,
    signed_percent,
    steps,
    table,
    verdict_label,
)

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.6081, "2.608"), (0.0031, "0.0031"), (1.2e-5, "1.2e-05"), (0, "0"), (NAN, "NaN"), (INF, "inf"), (-INF, "-inf")],
)
def test_a_number_has_four_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_right_to_four_digits(value: float) -> None:
    assert math.isclose(float(number(value)), value, rel_tol=5.001e-4, abs_tol=1e-320) or math.isinf(
        float(number(value))
    )


@pytest.mark.parametrize(("value", "text"), [(0.1964, "+0.196"), (-2, "-2"), (0, "+0"), (NAN, "NaN"), (INF, "+inf")])
def test_a_difference_has_a_sign(value: float, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.56, "56 %"),
        (0.0994, "9.9 %"),
        (0.0995, "10 %"),
        (0.056, "5.6 %"),
        (0.001, "0.1 %"),
        (0.00095, "0.1 %"),
        (0.00012, "0.012 %"),
        (0, "0.0 %"),
        (1, "100 %"),
        (23.5, "2,350 %"),
        (-0.056, "-5.6 %"),
        (NAN, "NaN %"),
        (INF, "inf %"),
    ],
)
def test_a_share_is_formatted_by_its_size(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(("share", "text"), [(0.35, "35.0 %"), (0.056, "5.6 %"), (23.5, "2,350.0 %"), (NAN, "NaN %")])
def test_a_share_can_have_fixed_decimals(share: float, text: str) -> None:
    assert percent(share, decimals=1) == text


@given(st.floats(-100, 100))
def test_a_share_is_never_written_as_zero_unless_it_is(share: float) -> None:
    digits = percent(share).removesuffix(" %").replace(",", "")
    assert (float(digits) == 0) == (100 * share == 0)
    assert math.isclose(float(digits), 100 * share, rel_tol=0.06)


@pytest.mark.parametrize(("share", "text"), [(0.075, "+7.5 %"), (-0.5, "-50 %"), (0, "+0.0 %")])
def test_a_relative_change_has_a_sign(share: float, text: str) -> None:
    assert signed_percent(share) == text


@pytest.mark.parametrize(
    ("change", "level", "text"),
    [(0.196, 2.608, " (+7.5 %)"), (-1, 2, " (-50 %)"), (1, -2, " (+50 %)"), (1, 0, ""), (1e9, 1, ""), (NAN, 1, "")],
)
def test_a_change_is_relative_to_the_size_of_its_level(change: float, level: float, text: str) -> None:
    assert relative(change, level) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (count(1, "step"), "1 step"),
        (count(0, "step"), "0 steps"),
        (count(2_500, "step"), "2,500 steps"),
        (count(1, "entry", "entries"), "1 entry"),
        (count(3, "entry", "entries"), "3 entries"),
        (steps(756, 818), "steps 756-818"),
        (steps(756, 756), "step 756"),
        (verdict_label("hold", "criterion-failed"), "hold (criterion-failed)"),
        (verdict_label("promote", ""), "promote"),
    ],
)
def test_counts_steps_and_verdicts(text: str, expected: str) -> None:
    assert text == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.0 s"),
        (0.42, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (12.4, "12 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3_599.6, "1 h"),
        (7_500, "2 h 5 min"),
        (90_000, "25 h"),
    ],
)
def test_a_duration_has_at_most_two_units(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (812, "812 bytes"),
        (43_700, "43.7 kB"),
        (999_960, "1.0 MB"),
        (1.2e9, "1.2 GB"),
        (5e12, "5000.0 GB"),
    ],
)
def test_a_size_is_in_powers_of_1000(size: float, text: str) -> None:
    assert file_size(size) == text


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], "none"),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        ([1, 2, 3], "1, 2 and 3"),
        (list("abcde"), "a, b, c, d and e"),
        (list("abcdefghi"), "a, b, c, d, e and 4 more"),
    ],
)
def test_a_list_is_joined_and_counted_beyond_five(names: list[object], text: str) -> None:
    assert listed(names) == text


def test_a_list_may_have_another_limit_and_another_word_for_none() -> None:
    assert listed("abc", limit=1) == "a and 2 more"
    assert listed((), empty="nothing") == "nothing"


@pytest.mark.parametrize(
    ("word", "near"),
    [("val_acuracy", "val_accuracy"), ("VAL-ACCURACY", "val_accuracy"), ("f-1", "f1"), ("xyzzy", None), ("", None)],
)
def test_the_closest_name_ignores_case_and_dashes(word: str, near: str | None) -> None:
    assert closest(word, ["val_accuracy", "f1", "loss"]) == near


def test_a_suggestion_lists_every_name_if_none_is_near() -> None:
    assert did_you_mean("val_acuracy", ["val_accuracy", "f1"]) == "did you mean val_accuracy?"
    assert did_you_mean("xyzzy", ["val_accuracy", "f1"], noun="metrics") == "metrics: val_accuracy, f1"
    assert did_you_mean("xyzzy", []) == "known: none"


@given(st.text())
def test_printable_text_has_no_control_characters_and_is_stable(text: str) -> None:
    safe = printable(text)
    assert all(char.isprintable() or char in "\n\t" for char in safe)
    assert printable(safe) == safe
    assert safe == text or not all(char.isprintable() or char in "\n\t" for char in text)


@given(st.text(), st.sampled_from(["ascii", "latin-1", "cp1252", "utf-8"]))
def test_printable_text_can_be_encoded(text: str, encoding: str) -> None:
    printable(text, encoding).encode(encoding)


def test_escape_sequences_are_shown_not_interpreted() -> None:
    assert printable("\x1b[31mred") == "\\x1b[31mred"
    assert printable("grün ▁", "ascii") == "gr\\xfcn \\u2581"


CELLS = st.lists(
    st.tuples(st.text("abc ", max_size=6), st.text("abc", max_size=3), st.text("01", max_size=4)), min_size=1
)


@given(CELLS)
def test_table_columns_are_aligned(rows: list[tuple[str, str, str]]) -> None:
    first, second, third = (max(map(len, column)) for column in zip(*rows, strict=True))
    for row, line in zip(rows, table(rows, right=(2,)), strict=True):
        padded = line.ljust(first + second + third + 4)
        assert padded[:first] == row[0].ljust(first)
        assert padded[first + 2 : first + 2 + second] == row[1].ljust(second)
        assert padded[first + second + 4 :] == row[2].rjust(third)
        assert line == line.rstrip()


def test_a_table_can_be_indented() -> None:
    assert table([("a", "1"), ("bbb", "22")], right=(1,), indent="  ") == ["  a     1", "  bbb  22"]
