"""The `stage` check: a stage meets its own criteria before the next one starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_smoke.criteria import parse
from pytest_smoke.judge.checks.check import NOT_MADE, Check, Reason, RunView, always, not_made, why_not_made
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.stages import Stage


def stage_criteria(run: RunView) -> Iterator[Finding]:
    """Collect what the run monitor judged at the end of each stage; stages without criteria have no finding."""
    for view in run.stages:
        if not view.stage.name or not view.stage.accept:
            continue
        if view.finished and view.criteria is not None:
            yield view.criteria
        elif not view.finished:
            criteria = [parse(text).not_judged(*why_not_made(run)).to_dict() for text in view.stage.accept]
            yield not_made(run, view.stage.finding_id(CHECK.id), data={"criteria": criteria})


def stage_finding(stage: Stage, judged: Sequence[Finding], *, next_name: str) -> Finding:
    """Pass if every criterion of the stage does. `judged`: its criteria's findings, in the stage's own steps.

    `next_name`: the stage that follows; empty after the last one.
    """
    failed = [finding for finding in judged if finding.status != "pass"]
    data = {"criteria": [finding.to_dict() for finding in judged], "first_step": stage.first_step}
    criteria = "criterion" if len(judged) == 1 else f"{len(judged)} criteria"
    failures = "its criterion" if len(judged) == 1 else f"{len(failed)} of its {criteria}"
    local = f" (steps counted from step {stage.first_step})" if stage.first_step else ""
    values = "; ".join(finding.text for finding in failed or judged)
    if not failed:
        text = f"stage {stage.name} met its {criteria}{local}: {values}"
        return Finding(id=f"{CHECK.id}[{stage.name}]", status="pass", text=text, step=stage.end - 1, data=data)
    consequence = ""
    if next_name and stage.continue_on_fail:
        consequence = f". Stage {next_name} ran nevertheless (continue_on_fail)"
    elif next_name:
        consequence = f". Stage {next_name} did not start"
    return Finding(
        id=f"{CHECK.id}[{stage.name}]",
        status="fail",
        reason="stage-criteria-failed",
        text=f"stage {stage.name} failed {failures}{local}: {values}{consequence}",
        step=stage.end - 1,
        observed=[finding.observed for finding in failed],
        bound=[finding.bound for finding in failed],
        data=data,
    )


CHECK = Check(
    id="stage",
    needed=always,
    question="Does each stage meet its own criteria before the next one starts?",
    when="end of a stage",
    verdict="hold",
    key="stages",
    decides_first=True,
    reasons=(
        Reason(id="stage-criteria-failed", status="fail", when="a criterion of the stage failed"),
        *NOT_MADE,
    ),
    at_end=stage_criteria,
)
