"""The bucket of one error of a tagger: the kind of mistake."""

from __future__ import annotations

import re
from unicodedata import decimal, normalize

from pytest_smoke.ner.letters import has_foreign_letter
from pytest_smoke.ner.trim import trim_value

BUCKETS = ("non_latin", "case_only", "bio_slip", "empty_pred", "num_confused", "other")
"""All buckets, in the order in which they are tried."""
_DIGIT = re.compile(r"\d")


def classify_error(raw: str, gold: str | None, pred: str | None, tag: str) -> str:
    """Return the first of `BUCKETS` that an error matches.

    Args:
        raw: The whole text of the example.
        gold: The correct value of the tag; None or empty if there is none.
        pred: The predicted value of the tag; None or empty if there is none.
        tag: Only for error messages: no bucket depends on it.

    The buckets:

    - `non_latin`: `raw` has a letter of another script than Latin. The text decides, not the value: on a text such as
      `Λ. Συγγρού 12` a tagger also fails at the number.
    - `case_only`: canonical caseless match (Unicode 3.13, D145): equal after NFD, casefolding and NFD again.
      Compatibility forms stay different: `1ᵉʳ` is not `1er`.
    - `bio_slip`: after trimming to letters and numbers, one value contains the other, and neither is empty.
    - `empty_pred`: the prediction is empty or white space.
    - `num_confused`: both values have decimal digits, of any script, and the numbers differ. All digits of a value
      form one number: `75 008` equals `75008`, and `07` equals `7`.
    - `other`: anything else, such as a prediction for a tag without a gold value, or the right value at a wrong place.

    Raises ValueError if both values are empty, because that is not an error.
    """
    return matching_buckets(raw, gold, pred, tag)[0]


def matching_buckets(raw: str, gold: str | None, pred: str | None, tag: str) -> tuple[str, ...]:
    """Return all of `BUCKETS` that an error matches, in order, or `other`. See `classify_error`."""
    truth, guess = gold or "", pred or ""
    if not truth and not guess:
        raise ValueError(
            f"not an error of {tag!r}: gold is {gold!r} and pred is {pred!r}; one of them must have a value"
        )
    matches = {
        "non_latin": has_foreign_letter(raw),
        "case_only": truth != guess and _caseless(truth) == _caseless(guess),
        "bio_slip": truth != guess and _contains(trim_value(truth), trim_value(guess)),
        "empty_pred": not guess.strip(),
        "num_confused": _numbers_differ(truth, guess),
    }
    return tuple(bucket for bucket in BUCKETS if matches.get(bucket)) or ("other",)


def _caseless(value: str) -> str:
    return normalize("NFD", normalize("NFD", value).casefold())


def _contains(one: str, other: str) -> bool:
    return bool(one and other) and (one in other or other in one)


def _numbers_differ(one: str, other: str) -> bool:
    first, second = _digits(one), _digits(other)
    return bool(first and second) and first.lstrip("0") != second.lstrip("0")


def _digits(value: str) -> str:
    return "".join(str(decimal(digit)) for digit in _DIGIT.findall(value))
