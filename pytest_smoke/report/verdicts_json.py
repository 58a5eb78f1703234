"""`verdicts.json`: the outcomes of a session as strict JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pytest_smoke.files import VERDICTS_SCHEMA, tree_json
from pytest_smoke.outcome import Outcome


def verdicts_json(outcomes: Iterable[Outcome]) -> str:
    """Render `{"schema": 1, "outcomes": [...]}`, sorted by id."""
    return join_outcomes({outcome.id: outcome_json(outcome) for outcome in outcomes})


def outcome_json(outcome: Outcome) -> str:
    """Render one outcome as it is in the file."""
    return tree_json(outcome.to_dict())


def join_outcomes(rendered: Mapping[str, str]) -> str:
    """Render the file from the texts of `outcome_json` by id."""
    ordered = [rendered[item_id] for item_id in sorted(rendered)]
    listed = ",\n".join(f"  {text}" for text in ordered)
    outcomes = f"[\n{listed}\n ]" if ordered else "[]"
    return f'{{\n "schema": {VERDICTS_SCHEMA},\n "outcomes": {outcomes}\n}}\n'
