"""The `accept` check: the recipe's own criteria hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pytest_smoke.criteria import parse
from pytest_smoke.judge.checks.check import NOT_MADE, Check, Reason, RunView, why_not_made
from pytest_smoke.outcome import Finding


def accept(run: RunView) -> Iterator[Finding]:
    """Judge `checks.accept` on everything that the run recorded."""
    series = run.series()
    named = [view.stage for view in run.stages if view.stage.name]
    for number, text in enumerate(run.case.recipe.checks.accept):
        criterion = parse(text)
        if run.complete:
            finding = criterion.judge(
                series,
                baseline=run.baseline,
                steps_run=run.steps,
                stages={stage.name: (stage.first_step, stage.end - 1) for stage in named},
                steps_per_epoch=run.case.recipe.smoke.steps_per_epoch,
            )
        else:
            finding = criterion.not_judged(*why_not_made(run))
        yield replace(finding, key=f"checks.accept[{number}]")


CHECK = Check(
    id="accept",
    question="Do the recipe's own criteria (`checks.accept`) hold?",
    when="end",
    verdict="hold",
    key="checks.accept",
    reasons=(
        Reason(id="criterion-failed", status="fail", when="the comparison does not hold"),
        Reason(id="non-finite", status="fail", when="a value in the comparison is NaN or infinite"),
        Reason(id="missing-metric", status="fail", when="a metric was never recorded"),
        Reason(id="missing-baseline", status="fail", when="the baseline run is not known"),
        Reason(id="unknown-stage", status="fail", when="the run has no stage of that name"),
        Reason(id="run-too-short", status="fail", when="the criterion asks for steps that the run never made"),
        Reason(id="no-values", status="fail", when="a metric has no value in the range of steps"),
        Reason(id="unknown-epoch-length", status="fail", when="`by epoch` needs `smoke.steps_per_epoch`"),
        *NOT_MADE,
    ),
    at_end=accept,
)
