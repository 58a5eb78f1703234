"""The `accept` check: the recipe's own criteria hold. The `metric-names` check: they name metrics that exist."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pytest_smoke.criteria import parse
from pytest_smoke.events import SERIES, InitialMetrics
from pytest_smoke.judge.checks.check import NOT_MADE, Check, Reason, RunView, always, why_not_made
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.text import did_you_mean, listed


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


def metric_names(run: RunView, events: Sequence[InitialMetrics]) -> Iterator[Finding]:
    """Compare the names in the criteria with what the run can record, before the first step."""
    event, named = events[-1], _names_at_start(run.case)
    if not named:
        return
    known = [*event.values, *event.terms, *SERIES]
    missing = {name: key for name, key in named.items() if name not in known}
    if not missing:
        text = "the run records every metric that the criteria name"
        yield Finding(id=METRIC_NAMES.id, status="pass", text=text)
        return
    first = next(iter(missing))
    if run.case.recipe.trainer == "task":
        source = "evaluate(model) does not return" if event.evaluates else "the task has no evaluate(model) to return"
        hint = "evaluate(model) must return every metric at each call, with NaN for what is not known yet"
    else:
        source = "the trainer's evaluation does not return" if event.evaluates else "the trainer does not evaluate"
        hint = "give the trainer the data and the functions that its evaluation needs"
    yield Finding(
        id=METRIC_NAMES.id,
        status="fail",
        reason="missing-metric",
        text=f"the criteria name {listed(missing)}, which {source}; {did_you_mean(first, known)}",
        observed=sorted(event.values),
        bound=list(missing),
        hint=hint,
        key=missing[first],
    )


def _names_at_start(case: Case) -> dict[str, str]:
    """Return the names that criteria read and that must exist at the first step, each with the key of its criterion.

    Stages and phases that start later may bring metrics and loss terms of their own.
    """
    recipe, first = case.recipe, case.stages[0]
    if len(first.phases) > 1:
        return {}
    texts, key = (first.accept, f"{first.key}.accept") if first.name else (recipe.checks.accept, "checks.accept")
    return {name: f"{key}[{number}]" for number, text in enumerate(texts) for name in sorted(parse(text).metrics)}


CHECK = Check(
    id="accept",
    needed=always,
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
METRIC_NAMES = Check(
    id="metric-names",
    question="Does `evaluate` return every metric that a criterion names, before the first step?",
    when="first steps",
    verdict="error",
    key="checks.accept",
    stops_run=True,
    reasons=(Reason(id="missing-metric", status="fail", when="a criterion names a metric that is not recorded"),),
    on_event=(InitialMetrics, metric_names),
)
