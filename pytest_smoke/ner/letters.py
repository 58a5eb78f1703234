"""Letters, numbers and marks by Unicode category, and letters of scripts other than Latin."""

from __future__ import annotations

from bisect import bisect_right
from unicodedata import category

# fmt: off
_NOT_FOREIGN = (
    (0x41, 0x2EE), (0x374, 0x374), (0x640, 0x640), (0x1CE9, 0x1D25), (0x1D2C, 0x1D5C), (0x1D62, 0x1D65),
    (0x1D6B, 0x1D77), (0x1D79, 0x1DBE), (0x1E00, 0x1EFF), (0x2071, 0x2124), (0x2128, 0x2184), (0x2C60, 0x2C7F),
    (0x2E2F, 0x2E2F), (0x3006, 0x3035), (0x303C, 0x303C), (0x30FC, 0x30FC), (0xA717, 0xA7FF), (0xA9CF, 0xA9CF),
    (0xAB30, 0xAB64), (0xAB66, 0xAB6D), (0xFB00, 0xFB06), (0xFF21, 0xFF5A), (0xFF70, 0xFF70), (0xFF9E, 0xFF9F),
    (0x10780, 0x107BF), (0x1D400, 0x1DFF2), (0x1DFF5, 0x1DFFF),
)
# fmt: on
"""Ranges of code points whose letters are of script Latin, Common or Inherited in Unicode's Scripts.txt (UAX 24); all
letters outside them are of other scripts. The standard library does not know scripts, and character names mislead: K
(KELVIN SIGN) and the superscript h (MODIFIER LETTER SMALL H) are Latin, the okina of Oahu (MODIFIER LETTER TURNED
COMMA) belongs to no script.
"""
_FIRSTS = [first for first, _ in _NOT_FOREIGN]


def is_letter(character: str) -> bool:
    """Whether the general category is L*."""
    return category(character)[0] == "L"


def is_letter_or_number(character: str) -> bool:
    """Whether the general category is L* or N*."""
    return category(character)[0] in "LN"


def is_mark(character: str) -> bool:
    """Whether the general category is M*: accents, vowel signs and viramas, which belong to the letter before them."""
    return category(character)[0] == "M"


def has_foreign_letter(text: str) -> bool:
    """Whether a letter (L*) is of another script than Latin; digits, marks and punctuation do not count.

    Letters shared by scripts (Common, Inherited) are not foreign: `µ`, the okina, mathematical alphabets.
    """
    return not text.isascii() and any(_is_foreign(character) for character in text if is_letter(character))


def _is_foreign(letter: str) -> bool:
    at = bisect_right(_FIRSTS, ord(letter)) - 1
    return at < 0 or ord(letter) > _NOT_FOREIGN[at][1]
