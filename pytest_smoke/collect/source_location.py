"""The user's own file and line behind a verdict."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_smoke.criteria import parse
from pytest_smoke.judge.checks.pipeline import PREFIX as PIPELINE
from pytest_smoke.judge.verdict import RUN, STABILITY
from pytest_smoke.outcome import Finding, Outcome
from pytest_smoke.recipe.case import Case

KEYS = {
    "batch-geometry": ("batch_size", "grad_accum_steps", "world_size"),
    "accumulation": ("batch_size", "grad_accum_steps"),
    "schedule": ("lr_schedule", "learning_rate", "warmup_steps", "max_steps"),
}
"""Keys of `smoke:` that a check speaks of, the likeliest first."""


def place_of(outcome: Outcome, case: Case) -> str:
    """`path:line` of the code that crashed, or of the recipe's key that the deciding finding speaks of."""
    decided = next((finding for finding in outcome.findings if finding.text == outcome.text), None)
    if decided is None:
        return f"{case.path}:1"
    if decided.data.get("place"):
        return str(decided.data["place"])
    return next((case.places[key] for key in _keys(decided, case) if key in case.places), f"{case.path}:1")


def _keys(finding: Finding, case: Case) -> Iterator[str]:
    """Dotted keys of the recipe, the likeliest first."""
    check, _, stage = finding.id.rstrip("]").partition("[")
    for key in KEYS.get(check, ()):
        yield f"smoke.{key}"
    for number, declared in enumerate(case.recipe.stages):
        if declared.name == stage and check != "accept":
            yield f"stages[{number}]"
    if finding.id == "settings":
        for key in finding.observed:
            yield f"smoke.{key.partition('.')[0]}"
    if finding.id == RUN:
        yield finding.data.get("key", "")
        yield "task"
    if finding.id == "mix-drawn":
        yield "mix"
    if check in STABILITY:
        yield "full.learning_rate"
    if finding.id.startswith(PIPELINE):
        yield "smoke.pipeline"
    if finding.id == "baseline":
        yield "checks.baseline"
    if check in ("grad-ratio", "resume"):
        yield f"checks.{check.replace('-', '_')}"
    for number, text in enumerate(case.recipe.checks.accept):
        if finding.id == parse(text).id:
            yield f"checks.accept[{number}]"
    yield finding.id
    yield "smoke"
