"""What a trainer itself says about its run, in words, as `Model diverged with loss = NaN`."""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_STATEMENTS = 100
"""Statements that are kept per log; the first one decides."""
_MAX_CHARS = 2000
"""Characters of a line that are searched."""

_HINT = re.compile(r"nan|n a n|inf|finite|diverg|explod|invalid loss|loss scale", re.IGNORECASE)
"""Any of these is part of every statement: most lines end here."""

_BAD = r"(?:n ?a ?n\b|nans\b|inf\b|infs\b|infinity\b|infinite\b|not finite|non-?finite|no longer finite|not a number)"
_LOSS = r"(?:loss(?:es)?|cost|losstensor|gradients?|grad(?:ient)?[ _]norm|objective)"
_IS = (
    r"(?:is|are|was|were|has|have|became|becomes?|becoming|got|gets|went|goes|going|turned|turns|hit|hits|contains?|"
    r"reached|returned|equals?|to)"
)
_OF_LOSS = "(?:the|local|forward|training|train)"
_STATEMENTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{_LOSS}\b[^.:;|]{{0,40}}? {_IS} (?:\w+ ){{0,2}}?(?:an? )?[\"'`]?{_BAD}",  # loss became infinite
        rf"\b{_BAD}[\"'`]?(?: or [\w-]+)?(?: values?)?(?: found| detected| encountered)?(?: in| of| for| at)?"
        rf"(?: {_OF_LOSS}){{0,3}} {_LOSS}\b",
        rf"\b{_LOSS} {_BAD}(?:[ /,]+(?:or |and )?{_BAD})? ?(?:detected|found|encountered|occurred|error|!)",
        r"\b(?:model|training|run|loss|optimi[sz]ation|network) (?:has |have |is |likely )?"
        r"(?:diverged|diverging|exploded)\b",
        r"\bloss is (?:probably|likely) exploding\b",
        r"\bdiverged with (?:loss|cost)\b",
        r"\binvalid loss\b",
        rf"\b(?:stop|stopp|terminat|abort|exit|halt|suspend)\w* [^.;|]{{0,40}}?\b{_BAD} (?:loss|gradient)",
    )
)
_NOT = re.compile(
    r"\b(?:if|when|whenever|unless|check(?:s|ing)? (?:for|if)|in case|should|would|might|could|may|no|without|never|"
    r"best|lowest|initial|improved|"
    r"not (?:diverge|nan|inf)|avoid|prevent|patience|param(?:eter)?s?|args?|config|option|flag|terminate_?on_?nan)\b"
    r"|\bnumber of nan\b|\w+_nan\b|\bnan_\w+|is not nan",
    re.IGNORECASE,
)
"""A condition, a setting or a negation does not state that the loss was not finite."""


class Statement(NamedTuple):
    """A line in which the trainer says that its run is broken."""

    line: int
    text: str


def is_statement(text: str) -> bool:
    """Whether a line says in words that the loss or a gradient is not finite, or that the run diverged."""
    if not _HINT.search(text):
        return False
    text = text[:_MAX_CHARS]
    found = (pattern.search(text) for pattern in _STATEMENTS)
    return any(match and not _NOT.search(text, 0, match.end()) for match in found)
