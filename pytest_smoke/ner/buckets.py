"""The bucket of one error of a tagger: what kind of mistake a wrong value is."""

from __future__ import annotations

import re
from unicodedata import decimal, normalize

from pytest_smoke.ner.letters import has_foreign_letter
from pytest_smoke.ner.trim import trimmed

BUCKETS = ("non_latin", "case_only", "bio_slip", "empty_pred", "num_confused", "other")
"""In the order in which they are tried."""
_DIGIT = re.compile(r"\d")


def classify_error(raw: str, gold: str | None, pred: str | None, tag: str) -> str:
    """The first of `BUCKETS` that an error falls into.

    raw: the whole text; gold, pred: the value of the tag, None or empty where there is none. `tag` names the error for
    the caller: no bucket depends on it, so a house number mistaken for another is `num_confused` as a postcode is.

    - `non_latin`: `raw` holds a letter of another script than Latin. The text decides, not the value: a tagger fails on
      `Λ. Συγγρού 12` as a whole, its postcode included, and the text is given for no other bucket's sake.
    - `case_only`: canonical caseless match (Unicode 3.13, D145): equal after NFD, casefolding and NFD again.
      Compatibility forms stay different: `1ᵉʳ` is not `1er`.
    - `bio_slip`: trimmed of what is neither letter nor number, one contains the other, and neither is empty.
    - `empty_pred`: nothing, or only white space, was predicted.
    - `num_confused`: both hold decimal digits, of any script, and the numbers differ. All digits of a value are one
      number: `75 008` and `75008`, `07` and `7` do not differ.
    - `other`: a value predicted where there is none, the right value at a wrong place, and the rest.

    Raises ValueError if both values are empty: that is no error.
    """
    return matching_buckets(raw, gold, pred, tag)[0]


def matching_buckets(raw: str, gold: str | None, pred: str | None, tag: str) -> tuple[str, ...]:
    """All of `BUCKETS` that an error falls into, in order; `other` if no other does. Raises as `classify_error`."""
    truth, guess = gold or "", pred or ""
    if not truth and not guess:
        raise ValueError(f"no error of {tag!r}: gold is {gold!r} and pred {pred!r}; at least one must hold a value")
    matches = {
        "non_latin": has_foreign_letter(raw),
        "case_only": truth != guess and _caseless(truth) == _caseless(guess),
        "bio_slip": truth != guess and _contain(trimmed(truth), trimmed(guess)),
        "empty_pred": not guess.strip(),
        "num_confused": _numbers_differ(truth, guess),
    }
    return tuple(bucket for bucket in BUCKETS if matches.get(bucket)) or ("other",)


def _caseless(value: str) -> str:
    return normalize("NFD", normalize("NFD", value).casefold())


def _contain(one: str, other: str) -> bool:
    return bool(one and other) and (one in other or other in one)


def _numbers_differ(one: str, other: str) -> bool:
    first, second = _digits(one), _digits(other)
    return bool(first and second) and first.lstrip("0") != second.lstrip("0")


def _digits(value: str) -> str:
    return "".join(str(decimal(digit)) for digit in _DIGIT.findall(value))
