"""The user's own file and line behind a verdict."""

from __future__ import annotations

from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe.case import Case


def source_location(outcome: Outcome, case: Case) -> str:
    """Return `path:line` of the code, or of the recipe key, that the deciding finding is about."""
    finding = outcome.deciding
    if finding is None:
        return f"{case.path}:1"
    return finding.place or place_of_key(finding.key, case)


def place_of_key(key: str, case: Case) -> str:
    """Return `path:line` of a dotted recipe key, of the nearest key above it that the file has, or of line 1."""
    while key:
        if key in case.places:
            return case.places[key]
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return f"{case.path}:1"
