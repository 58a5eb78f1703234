"""Reads the earlier smoke run that criteria compare with: `baseline.NAME` is the last value of NAME in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_smoke.errors import BaselineError
from pytest_smoke.files import VERDICTS, read_json
from pytest_smoke.recipe.case import Case


def read_baseline(case: Case, *, root: Path, item_id: str) -> dict[str, float]:
    """Return the last value of every series of the outcome that `checks.baseline` names.

    `item_id`: the current item, which is looked up unless `checks.baseline_id` names another. Raises BaselineError.
    """
    checks = case.recipe.checks
    assert checks.baseline is not None
    path = root / checks.baseline
    path = path / VERDICTS if os.path.isdir(path) else path
    source = f"checks.baseline {checks.baseline!r}"
    try:
        tree = read_json(path)
        outcomes = {str(outcome["id"]): outcome for outcome in tree["outcomes"]}
    except OSError as error:
        raise BaselineError(f"{source} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError):
        raise BaselineError(f"{source} is not a {VERDICTS}: it has no list of outcomes") from None
    wanted = checks.baseline_id or (next(iter(outcomes)) if len(outcomes) == 1 else item_id)
    if wanted not in outcomes:
        raise BaselineError(f"{source} has no outcome {wanted}; it has: {', '.join(outcomes) or 'none'}")
    try:
        return _last_values(outcomes[wanted])
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise BaselineError(f"{source} is not a {VERDICTS}: facts.last_values of {wanted} are not numbers") from None


def _last_values(outcome: Mapping[str, Any]) -> dict[str, float]:
    """Read `facts.last_values`; an outcome without steps has none, and `float` reads the texts of `json_value`."""
    return {str(name): float(value) for name, value in outcome.get("facts", {}).get("last_values", {}).items()}
