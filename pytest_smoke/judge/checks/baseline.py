"""The `baseline` check: the earlier run that criteria compare with has the metrics they name."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_smoke.criteria import parse
from pytest_smoke.errors import BaselineError
from pytest_smoke.judge.checks.check import Check, Reason
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.text import listed, number


def baseline(case: Case, values: Mapping[str, float]) -> Finding:
    """Check that every `baseline.NAME` of the criteria exists, before any step is run."""
    texts = [*case.recipe.checks.accept, *(text for stage in case.recipe.stages for text in stage.accept)]
    names = sorted(frozenset().union(*(parse(text).baselines for text in texts)))
    source = case.recipe.checks.baseline
    missing = [name for name in names if name not in values]
    if missing:
        known = ", ".join(sorted(values)) or "nothing"
        text = f"checks.baseline {source} has no {listed(missing)}; it has: {known}"
        return Finding(id=CHECK.id, status="fail", reason="missing-metric", text=text, observed=missing)
    listing = ", ".join(f"{name} {number(values[name])}" for name in names) or "no criterion uses it"
    data = {name: values[name] for name in names}
    return Finding(id=CHECK.id, status="pass", text=f"checks.baseline {source}: {listing}", data=data)


def unreadable_baseline(error: BaselineError) -> Finding:
    """Return the finding of a baseline that cannot be read."""
    return Finding(id=CHECK.id, status="fail", reason="missing-baseline", text=str(error))


CHECK = Check(
    id="baseline",
    question="Does the baseline that criteria compare with exist, with the metrics that they name?",
    when="preflight",
    verdict="invalid",
    key="checks.baseline",
    reasons=(
        Reason(id="missing-baseline", status="fail", when="the file or the outcome in it cannot be read"),
        Reason(id="missing-metric", status="fail", when="the baseline has no metric of a name that a criterion uses"),
    ),
)
