"""Trim spans to letters and numbers."""

# ruff: noqa: RUF001  (letters that look like Latin ones are what is tested)

from __future__ import annotations

import re
import unicodedata

import pytest
import regex
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_smoke.spans import trim_boundary, trim_span

DEVANAGARI_ROAD = "सड़क"
ACCENTED = unicodedata.normalize("NFD", "Orléans é")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (", 7647", "7647"),
        ("«Le Tréport»,", "Le Tréport"),
        ("Stratford-upon-Avon", "Stratford-upon-Avon"),
        ("(12 bis)", "12 bis"),
        (f" {ACCENTED}.", ACCENTED),
        ("दिल्ली।", "दिल्ली"),
        ("क्,", "क्"),
        ("\u0301rue", "rue"),
        ("a,\u0301", "a"),
        ("𝟙𝟚🏠", "𝟙𝟚"),
        ("🏠 𐐷𐐲.", "𐐷𐐲"),
        ("½, №Ⅳ", "½, №Ⅳ"),
        ("_x_", "x"),
        (f"{DEVANAGARI_ROAD}\u200d", DEVANAGARI_ROAD),
    ],
)
def test_values_are_trimmed_to_letters_and_numbers_with_their_marks(text: str, value: str) -> None:
    found = trim_span(text, 0, len(text))
    assert found is not None
    assert found == (text.index(value), text.index(value) + len(value), value)


def test_offsets_refer_to_the_whole_text() -> None:
    text = "LE TRÉPORT, 76470 (FR)"
    assert trim_boundary(text, 10, 18) == (12, 17)
    assert trim_span(text, 10, 18) == (12, 17, "76470")


def test_a_mark_without_its_base_in_the_span_is_trimmed() -> None:
    text = unicodedata.normalize("NFD", "été")
    assert text[1] == "\u0301"
    assert trim_boundary(text, 1, len(text)) == (2, 5)
    assert trim_boundary(text, 1, 2) == (1, 1)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("St.", "St."),
        ("St.,", "St."),
        ("St..", "St."),
        ("Ste\u0301.", "Ste\u0301."),
        ("No 12.", "No 12"),
        ("St .", "St"),
        ("St", "St"),
        ("...", None),
    ],
)
def test_one_full_stop_after_a_letter_is_kept_on_request(text: str, kept: str | None) -> None:
    found = trim_span(text, 0, len(text), keep_full_stop=True)
    assert (found and found[2]) == kept


def test_a_full_stop_outside_the_span_is_not_added() -> None:
    assert trim_boundary("St. Paul", 0, 2, keep_full_stop=True) == (0, 2)


def test_a_span_without_letter_or_number_is_empty_at_its_start() -> None:
    assert trim_boundary("ab, -- cd", 2, 7) == (2, 2)
    assert trim_span("ab, -- cd", 2, 7) is None


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (2, 2, "empty span: start and end are both 2"),
        (9, 9, "empty span: start and end are both 9"),
        (3, 1, "reversed span: start 3 is after end 1"),
        (-2, 3, "span -2-3 is outside the text; offsets go from 0 to 5"),
        (1, 6, "span 1-6 is outside the text; offsets go from 0 to 5"),
    ],
)
def test_an_invalid_span_is_refused(start: int, end: int, message: str) -> None:
    for function in (trim_boundary, trim_span):
        with pytest.raises(ValueError, match=message):
            function("Paris", start, end)


AWKWARD = "aÉ1½٣क ी्é\u0301\u20e3,.-_ 　\u200d\ufe0f🏠𐐷𝟙\ud800"
TEXTS = st.one_of(st.text(min_size=1), st.text(st.sampled_from(AWKWARD), min_size=1))


@st.composite
def spans(draw: st.DrawFn, texts: st.SearchStrategy[str] = TEXTS) -> tuple[str, int, int]:
    """Return any Unicode text and a valid span of it."""
    text = draw(texts)
    start = draw(st.integers(0, len(text) - 1))
    return text, start, draw(st.integers(start + 1, len(text)))


def by_pattern(text: str, start: int, end: int) -> tuple[int, int]:
    """Trim with a regular expression over one character per category: s letter or number, m mark, x other."""
    spelled = "".join({"L": "s", "N": "s", "M": "m"}.get(unicodedata.category(c)[0], "x") for c in text[start:end])
    found = re.search("s(?:.*s)?m*", spelled)
    return (start + found.start(), start + found.end()) if found else (start, start)


@given(spans())
def test_offsets_agree_with_a_regular_expression(span: tuple[str, int, int]) -> None:
    assert trim_boundary(*span) == by_pattern(*span)


@given(spans(st.text(st.sampled_from("aÉ7½٣कि्\u0301,. -(»🏠𐐷"), min_size=1)))
def test_values_agree_with_the_regex_library(span: tuple[str, int, int]) -> None:
    text, start, end = span
    found = regex.search(r"[\p{L}\p{N}](?s:.*[\p{L}\p{N}])?\p{M}*", text[start:end])
    kept = trim_span(text, start, end)
    assert (kept and kept[2]) == (found and found.group())


@given(spans(), st.booleans())
def test_trimming_twice_changes_nothing(span: tuple[str, int, int], keep_full_stop: bool) -> None:
    text = span[0]
    once = trim_boundary(*span, keep_full_stop=keep_full_stop)
    assume(once[0] < once[1])
    assert trim_boundary(text, *once, keep_full_stop=keep_full_stop) == once


@given(spans(), st.booleans())
def test_a_span_never_grows_or_loses_a_letter(span: tuple[str, int, int], keep_full_stop: bool) -> None:
    text, start, end = span
    first, last = trim_boundary(text, start, end, keep_full_stop=keep_full_stop)
    assert start <= first <= last <= end
    lost = text[start:first] + text[last:end]
    assert not [c for c in lost if unicodedata.category(c)[0] in ("L", "N")]


@given(spans())
def test_keep_full_stop_adds_one_full_stop_or_nothing(span: tuple[str, int, int]) -> None:
    text, _, end = span
    first, last = trim_boundary(*span)
    kept = trim_boundary(*span, keep_full_stop=True)
    letter = [c for c in text[first:last] if unicodedata.category(c)[0] != "M"][-1:]
    stop = last < end and text[last] == "." and bool(letter) and unicodedata.category(letter[0])[0] == "L"
    assert kept == (first, last + stop)
