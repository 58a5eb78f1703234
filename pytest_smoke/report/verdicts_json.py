"""`verdicts.json`: the outcomes of a session as strict JSON."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_smoke.files import VERDICTS_SCHEMA, strict_json
from pytest_smoke.outcome import Outcome


def verdicts_json(outcomes: Iterable[Outcome]) -> str:
    """Render `{"schema": 1, "outcomes": [...]}`, sorted by id."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.id)
    return (
        strict_json({"schema": VERDICTS_SCHEMA, "outcomes": [outcome.to_dict() for outcome in ordered]}, indent=1)
        + "\n"
    )
