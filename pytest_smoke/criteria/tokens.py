"""Split a criterion's text into tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pytest_smoke.criteria.nodes import BASELINE, FUNCTIONS, NAME, ORDERS, TextRange
from pytest_smoke.errors import CriterionError

MAX_TOKENS = 200
"""Longest criterion. A sum of 200 tokens nests at most 100 levels, so recursion over the tree stays far below Python's
stack limit of 1,000 frames."""

_TOKEN = re.compile(
    rf"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    rf"|(?P<quoted>(?:{re.escape(BASELINE)})?`[^`]+`)"
    rf"|(?P<name>{NAME.pattern})"
    rf"|(?P<sign><=|>=|==|!=|[-<>+*/()])"
)
_NAME = re.compile(r"\s*([^\s:`<>=!][^:`<>=!]{0,59}):")
"""The name in front of a criterion, with its colon."""
_SPACE = re.compile(r"\s*")
_WORDLIKE = re.compile(r"[\w.]+")

OPERAND = "a number, a metric (in backticks if it is not a plain name), one of " + ", ".join(
    f"{name}(...)" for name in FUNCTIONS
)
QUALIFIERS = "'over stage NAME', 'over steps A-B', 'by step N', 'by epoch N', 'at end'"
TWO_CRITERIA = "write two criteria, one comparison each"
_MISTAKES = {
    "=": "write '==' for equality",
    "≤": "write '<='",
    "≥": "write '>='",
    "≠": "write '!='",
    "%": "write 80 % as 0.8",
    "^": "there is no power operator",
    "`": "write a name between two backticks, as in `val/f1`",
    ",": "a function takes one expression",
    ":": "a name before a criterion has at most 60 characters and none of : ` < > = !, as in 'health: a < 1'",
    "&": TWO_CRITERIA,
    "|": TWO_CRITERIA,
}


Kind = Literal["number", "quoted", "name", "sign", "end"]
_KINDS: tuple[Kind, ...] = ("number", "quoted", "name", "sign")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A word, number or sign of the text."""

    kind: Kind
    text: str
    span: TextRange

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


def name_of(text: str) -> tuple[str, int]:
    """Return the name in front of a criterion (may be empty) and the index at which the criterion itself starts."""
    match = _NAME.match(text)
    return (" ".join(match[1].split()), match.end()) if match else ("", 0)


def tokens_of(text: str) -> list[Token]:
    """Return the tokens after the name; the last one has kind `end`. Raises `CriterionError`."""
    tokens: list[Token] = []
    at = _SPACE.match(text, name_of(text)[1]).end()  # type: ignore[union-attr]  # a pattern that may be empty always matches
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            hint = _MISTAKES.get(text[at], f"allowed: {OPERAND}, ( ) + - * / {' '.join(ORDERS)}, {QUALIFIERS}")
            raise CriterionError(text, (at, at + 1), f"{text[at]!r} is not part of the criteria language; {hint}")
        kind = next(kind for kind in _KINDS if kind == match.lastgroup)
        at = match.end()
        if kind == "number" and (rest := _WORDLIKE.match(text, at)):
            span = (match.start(), rest.end())
            raise CriterionError(text, span, f"{text[slice(*span)]!r} is not a number; allowed forms: 500, 0.5, 1e-3")
        tokens.append(Token(kind=kind, text=match.group(), span=match.span()))
        if len(tokens) > MAX_TOKENS:
            problem = f"the criterion is too long: at most {MAX_TOKENS} names, numbers and operators are allowed"
            raise CriterionError(text, match.span(), problem)
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # as above
    return [*tokens, Token(kind="end", text="", span=(len(text), len(text)))]
