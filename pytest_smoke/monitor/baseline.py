"""The earlier smoke that criteria compare with: `baseline.NAME` is the last value of NAME in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Any

from pytest_smoke.criteria import parse
from pytest_smoke.errors import BaselineError
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case

REPORT = "verdicts.json"


def read_baseline(case: Case, *, root: Path, id: str) -> dict[str, float]:
    """Last values by series of the outcome that the recipe's `checks.baseline` names. Raises NoBaseline.

    `id`: of the smoke that asks, which is the outcome looked for unless `checks.baseline_id` names another.
    """
    checks = case.recipe.checks
    assert checks.baseline is not None
    path = root / checks.baseline
    path = path / REPORT if path.is_dir() else path
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        outcomes = {str(outcome["id"]): outcome for outcome in tree["outcomes"]}
    except OSError as error:
        raise BaselineError(f"checks.baseline {checks.baseline} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError):
        raise BaselineError(f"checks.baseline {checks.baseline} is no {REPORT}: it has no list of outcomes") from None
    wanted = checks.baseline_id or (next(iter(outcomes)) if len(outcomes) == 1 else id)
    if wanted not in outcomes:
        found = ", ".join(outcomes) or "none"
        raise BaselineError(f"checks.baseline {checks.baseline} has no outcome {wanted}; it has: {found}")
    return _last_values(outcomes[wanted])


def baseline_finding(case: Case, values: Mapping[str, float]) -> Finding:
    """Whether every `baseline.NAME` of the criteria is there; before the run, for what is missing costs no steps."""
    texts = [*case.recipe.checks.accept, *(text for stage in case.recipe.stages for text in stage.accept)]
    asked = sorted(frozenset().union(*(parse(text).baselines for text in texts)))
    missing = [name for name in asked if name not in values]
    if missing:
        known = ", ".join(sorted(values)) or "nothing"
        text = f"the baseline {case.recipe.checks.baseline} has no {', '.join(missing)}; it has: {known}"
        return Finding(id="baseline", status="fail", reason="missing-metric", text=text, observed=missing)
    seen = ", ".join(f"{name} {values[name]:g}" for name in asked) or "no criterion asks for it"
    text = f"baseline {case.recipe.checks.baseline}: {seen}"
    return Finding(id="baseline", status="pass", text=text, data={name: values[name] for name in asked})


def no_baseline(error: BaselineError) -> Finding:
    """The finding of a baseline that cannot be read."""
    return Finding(id="baseline", status="fail", reason="missing-baseline", text=str(error))


def _last_values(outcome: Mapping[str, Any]) -> dict[str, float]:
    """Reports of runs that broke off early have none; `NaN` and the like are texts in strict JSON."""
    values = outcome.get("facts", {}).get("last_values", {})
    return {str(name): value if isinstance(value, int | float) else nan for name, value in values.items()}
