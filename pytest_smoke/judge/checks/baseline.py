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
        text = f"checks.baseline {source!r} has no {listed(missing)}; it has: {known}"
        hint = f"compare with a metric that the baseline has, or record {listed(missing)} in a new baseline run"
        return Finding(id=CHECK.id, status="fail", reason="missing-metric", text=text, observed=missing, hint=hint)
    listing = ", ".join(f"{name} {number(values[name])}" for name in names) or "no criterion uses it"
    data = {name: values[name] for name in names}
    return Finding(id=CHECK.id, status="pass", text=f"checks.baseline {source!r}: {listing}", data=data)


def unreadable_baseline(error: BaselineError) -> Finding:
    """Return the finding of a baseline that cannot be read."""
    hint = (
        "set checks.baseline to the report folder (or the verdicts.json) of an earlier smoke run, and "
        "checks.baseline_id to one of its outcomes"
    )
    return Finding(id=CHECK.id, status="fail", reason="missing-baseline", text=str(error), hint=hint)


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
