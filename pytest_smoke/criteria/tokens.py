"""Text to words and signs, and the error that points at one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pytest_smoke.criteria.nodes import BASELINE, FUNCTIONS, NAME, ORDERS, Span
from pytest_smoke.errors import CriterionError

MAX_TOKENS = 200
"""A sum this long still nests less than half of it, so no walk over the tree comes near Python's stack limit."""
_SHOWN = 100
"""Characters of an overlong text around the caret."""

_TOKEN = re.compile(
    rf"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    rf"|(?P<quoted>(?:{re.escape(BASELINE)})?`[^`]+`)"
    rf"|(?P<name>{NAME.pattern})"
    rf"|(?P<sign><=|>=|==|!=|[-<>+*/()])"
)
_NAME = re.compile(r"\s*([^\s:`<>=!][^:`<>=!]{0,59}):")
"""What a criterion is called, before it."""
_SPACE = re.compile(r"\s*")
_WORDLIKE = re.compile(r"[\w.]+")

OPERAND = "a number, a metric (in backticks if it is not a plain name), one of " + ", ".join(
    f"{name}(...)" for name in FUNCTIONS
)
QUALIFIERS = "'over stage NAME', 'over steps A-B', 'by step N', 'by epoch N', 'at end'"
_MISTAKEN = {
    "=": "equality is '=='",
    "≤": "write '<='",
    "≥": "write '>='",
    "≠": "write '!='",
    "%": "write 80 % as 0.8",
    "^": "there is no power",
    "`": "a name in backticks needs both of them, and something between",
    ",": "a function takes one expression",
    ":": "a name before a criterion has at most 60 characters, none of them : ` < > = !; as in 'health: a < 1'",
    "&": "one comparison a criterion: give two criteria",
    "|": "one comparison a criterion: give two criteria",
}


Kind = Literal["number", "quoted", "name", "sign", "end"]
_KINDS: tuple[Kind, ...] = ("number", "quoted", "name", "sign")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A word or sign of the text."""

    kind: Kind
    text: str
    span: Span

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


def name_of(text: str) -> tuple[str, int]:
    """What the criterion is called, or nothing, and where it begins; `generation quality: f1 > 0.01`."""
    found = _NAME.match(text)
    return (" ".join(found[1].split()), found.end()) if found else ("", 0)


def tokens_of(text: str) -> list[Token]:
    """The words and signs after the name, closed by one of kind `end`. Raises `CriterionError`."""
    tokens: list[Token] = []
    at = _SPACE.match(text, name_of(text)[1]).end()  # type: ignore[union-attr]  # a pattern that may be empty always matches
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            hint = _MISTAKEN.get(text[at], f"allowed: {OPERAND}, ( ) + - * / {' '.join(ORDERS)}, {QUALIFIERS}")
            raise CriterionError(text, (at, at + 1), f"{text[at]!r} is not part of a criterion; {hint}")
        kind = next(kind for kind in _KINDS if kind == found.lastgroup)
        at = found.end()
        if kind == "number" and (glued := _WORDLIKE.match(text, at)):
            span = (found.start(), glued.end())
            raise CriterionError(text, span, f"{text[slice(*span)]!r} is no number; allowed: 500, 0.5, 1e-3")
        tokens.append(Token(kind=kind, text=found.group(), span=found.span()))
        if len(tokens) > MAX_TOKENS:
            raise CriterionError(text, found.span(), f"a criterion has at most {MAX_TOKENS} words and signs")
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # as above
    return [*tokens, Token(kind="end", text="", span=(len(text), len(text)))]
