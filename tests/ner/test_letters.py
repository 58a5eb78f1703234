"""Scripts: the table against a library that knows them, for every code point."""

# ruff: noqa: RUF001  (letters that look like Latin ones are what is tested)

from __future__ import annotations

import sys
import unicodedata

import pytest
import regex

from pytest_smoke.ner.letters import has_foreign_letter

FOREIGN = regex.compile(r"(?![\p{Script=Latin}\p{Script=Common}\p{Script=Inherited}])\p{L}")


def test_every_letter_of_unicode_agrees_with_its_script() -> None:
    """Letters that are missing in one of the two Unicode versions are skipped."""
    letters = [
        c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c)[0] == "L" and regex.match(r"\p{L}", c)
    ]
    assert len(letters) > 130_000
    wrong = [f"U+{ord(c):04X}" for c in letters if has_foreign_letter(c) != bool(FOREIGN.match(c))]
    assert wrong == []


def test_only_letters_are_foreign() -> None:
    others = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c)[0] != "L")
    assert not has_foreign_letter(others)


@pytest.mark.parametrize(
    "text",
    [
        "LE TRÉPORT",
        "Łódź",
        "Đà Nẵng",
        "İstanbul",
        "Oʻahu",
        "1ª planta",
        "ＰＡＲＩＳ",
        "K 212A",
        "٧٦٤٧٠",
        "10 µm",
        "12 🏠",
        "",
    ],
)
def test_latin_text_is_not_foreign(text: str) -> None:
    assert not has_foreign_letter(text)
    assert not has_foreign_letter(unicodedata.normalize("NFD", text))


@pytest.mark.parametrize("text", ["Αθήνα", "улица 5", "75008 パリ", "דרך", "Rue Ω", "서울", "सड़क", "Ꭰ"])
def test_one_letter_of_another_script_is_foreign(text: str) -> None:
    assert has_foreign_letter(text)
