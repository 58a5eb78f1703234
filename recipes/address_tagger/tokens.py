"""Tokens with their offsets, and the features of a token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from zlib import crc32

from recipes.address_tagger.labels import Offsets

TOKEN = re.compile(r"(?:[^\W\d_]{1,4}|\d{1,3}|_|[^\w\s])[^\w\s]*")
"""A piece of a word: up to four letters or up to three digits, and the punctuation after them.

A predicted span of whole pieces can therefore end in a comma, a full stop or a bracket, as with any subword tokenizer
that joins punctuation to words. Gold spans never do; `trim_spans` removes the difference.
"""
MAX_TOKENS = 64
"""Largest number of tokens in a text; the model has as many positions."""
SLOTS = ("piece", "shape", "first", "last", "before", "after")
"""Features of a token, all hashed into the same buckets (the hashing trick, Weinberger et al. 2009)."""
BUCKETS = 4096
"""Rows of the embedding table. Bucket 0 is padding."""


def tokenize(text: str) -> list[Offsets]:
    """Return the offsets of the tokens in order."""
    return [match.span() for match in TOKEN.finditer(text)]


def features(text: str, tokens: Sequence[Offsets]) -> list[tuple[int, ...]]:
    """Return the bucket of each slot of each token, in [1, BUCKETS).

    Every digit counts as 0, so that numbers are known by their form. The neighbours of a token are those in its word.
    """
    pieces = [re.sub(r"\d", "0", text[start:end]) for start, end in tokens]
    joined = [False, *(left[1] == right[0] for left, right in pairwise(tokens)), False]
    before, after = ["", *pieces], [*pieces[1:], ""]
    return [
        _hashed(piece, before[at] if joined[at] else "", after[at] if joined[at + 1] else "")
        for at, piece in enumerate(pieces)
    ]


@lru_cache(maxsize=2**16)  # a few thousand pieces occur again and again
def _hashed(piece: str, before: str, after: str) -> tuple[int, ...]:
    core = piece.lower().rstrip(".,;:()'\u2019/-")
    values = (core, _shape(piece), core[:1], core[-2:], before.lower(), after.lower())
    return tuple(
        1 + crc32(f"{slot}={value}".encode()) % (BUCKETS - 1) for slot, value in zip(SLOTS, values, strict=True)
    )


def _shape(piece: str) -> str:
    """Replace letters by X or x, and keep digits and punctuation."""
    return "".join("X" if letter.isupper() else "x" if letter.isalpha() else letter for letter in piece)
