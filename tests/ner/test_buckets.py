"""Sort errors into six buckets; the first match wins."""

# ruff: noqa: RUF001  (letters that look like Latin ones are what is tested)

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_smoke.diagnose import BUCKETS, classify_error, matching_buckets


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("raw", "gold", "pred", "bucket"),
    [
        ("12 улица Ленина", "12", None, "non_latin"),
        ("Αθήνα 10431", "10431", "10431,", "non_latin"),
        ("パリ Paris", "Paris", "PARIS", "non_latin"),
        ("улица 5", None, "5", "non_latin"),
        ("LE TRÉPORT", "LE TRÉPORT", "Le Tréport", "case_only"),
        ("Straße 1", "Straße", "STRASSE", "case_only"),
        ("Orléans", "Orléans", nfd("ORLÉANS"), "case_only"),
        ("Orléans", "Orléans", nfd("Orléans"), "case_only"),
        ("Le Tréport, 76470", "76470", ", 7647", "bio_slip"),
        ("Paris ", "Paris", "Paris ", "bio_slip"),
        ("Paris 8e", "Paris", "Paris 8e", "bio_slip"),
        ("Paris,", "Paris,", "Paris", "bio_slip"),
        ("Paris", "Paris", "", "empty_pred"),
        ("Paris", "Paris", None, "empty_pred"),
        ("Paris", "Paris", "  ", "empty_pred"),
        ("12 rue 21", "12", "21", "num_confused"),
        ("12 rue", "12 bis", "21 ter", "num_confused"),
        ("٣ ٧", "٣", "٧", "num_confused"),
        ("٣ 7", "٣", "7", "num_confused"),
        ("٣ 3", "٣", "3", "other"),
        ("75 008 75008", "75 008", "75008", "other"),
        ("07", "bis 07", "7 ter", "other"),
        ("², ³", "²", "³", "other"),
        ("12 rue", "12", "rue", "other"),
        ("Paris, Lyon", "Paris", "Lyon", "other"),
        ("Paris, Lyon", "Paris", ",", "other"),
        ("1er 1ᵉʳ", "1er", "1ᵉʳ", "other"),
        ("Paris", None, "Paris", "other"),
        ("Paris, rue de Paris", "Paris", "Paris", "other"),
    ],
)
def test_an_error_goes_into_the_first_matching_bucket(
    raw: str, gold: str | None, pred: str | None, bucket: str
) -> None:
    assert classify_error(raw, gold, pred, "tag") == bucket


@pytest.mark.parametrize(
    ("raw", "gold", "pred", "buckets"),
    [
        ("улица 5", "5", None, ("non_latin", "empty_pred")),
        ("улица Main", "Main", "MAIN", ("non_latin", "case_only")),
        ("улица 76470", "76470", ", 7647", ("non_latin", "bio_slip", "num_confused")),
        ("улица Main", "Main", "x", ("non_latin",)),
        ("76470", "76470", "7647", ("bio_slip", "num_confused")),
        ("Paris, Lyon", "Paris", "Lyon", ("other",)),
    ],
)
def test_all_matching_buckets_are_returned_in_order(
    raw: str, gold: str, pred: str | None, buckets: tuple[str, ...]
) -> None:
    assert matching_buckets(raw, gold, pred, "tag") == buckets


@pytest.mark.parametrize(("gold", "pred"), [("", ""), (None, None), ("", None)])
def test_two_empty_values_are_refused(gold: str | None, pred: str | None) -> None:
    with pytest.raises(ValueError, match="not an error of 'city'"):
        classify_error("Paris", gold, pred, "city")


VALUES = st.one_of(st.none(), st.text(max_size=4), st.text(st.sampled_from("aAéÉ12٣,. жß"), max_size=5))


@given(VALUES, VALUES, VALUES)
def test_the_bucket_of_any_error_is_the_first_of_its_matching_buckets(
    raw: str | None, gold: str | None, pred: str | None
) -> None:
    assume(gold or pred)
    buckets = matching_buckets(raw or "", gold, pred, "tag")
    assert classify_error(raw or "", gold, pred, "tag") == buckets[0]
    assert list(buckets) == sorted(buckets, key=BUCKETS.index)
    assert ("other" in buckets) == (buckets == ("other",))
    assert ("empty_pred" in buckets) == (not (pred or "").strip())
    assert not {"bio_slip", "empty_pred"} <= set(buckets)
    if not gold:
        assert set(buckets) <= {"non_latin", "empty_pred", "other"}


@given(
    st.text(),
    st.text(st.sampled_from("abcXYZ"), min_size=1, max_size=6),
    st.text(st.sampled_from(",. -»("), max_size=3),
)
def test_punctuation_at_an_edge_is_always_a_bio_slip(raw: str, value: str, edge: str) -> None:
    assume(edge)
    assert "bio_slip" in matching_buckets(raw, value, edge + value, "tag")
    assert "bio_slip" in matching_buckets(raw, value + edge, value, "tag")


@given(st.integers(0, 10**30), st.integers(0, 10**30))
def test_numbers_are_compared_by_value(one: int, two: int) -> None:
    """The numbers are written with leading zeros, and in digits of different scripts."""
    arabic = str(two).translate({ord(str(n)): chr(0x0660 + n) for n in range(10)})
    confused = "num_confused" in matching_buckets("", f"no {one:05}", f"no {arabic}", "tag")
    assert confused == (one != two)


def test_very_long_numbers_are_compared() -> None:
    """Python refuses to convert more than 4,300 digits to an integer."""
    assert classify_error("", "1" * 5000, "2" * 5000, "tag") == "num_confused"
