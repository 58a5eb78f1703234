"""Advisories on metrics: they warn, and never change a verdict. What must hold is a criterion."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_smoke.events import Metrics
from pytest_smoke.judge.checks.check import Check, Reason, RunView
from pytest_smoke.judge.metrics import advisories
from pytest_smoke.judge.metrics.missing_metrics import missing_metrics
from pytest_smoke.outcome import Finding


def metric_advisories(run: RunView) -> Iterator[Finding]:
    """Make all of them; none for a run that ended early, or that is as short as a wiring run."""
    if run.case.mode == "wiring" or not run.complete:
        return
    metrics: dict[str, list[tuple[int, float]]] = {}
    for event in run.events(Metrics):
        if not event.is_evaluation:
            continue
        for name, value in event.values.items():
            metrics.setdefault(name, []).append((event.step, value))
    last = run.stages[-1].stage
    yield from advisories(
        metrics,
        run.case.recipe.metrics,
        full_steps=last.full_steps,
        stage=last.name,
        first_step=last.first_step,
    )
    yield from missing_metrics(run.case.recipe.checks.full_accept, list(run.series()))


FEW = Reason(id="too-few-evaluations", status="pass", when="there are too few evaluations to tell a change from noise")

PEAK_REGRESSION = Check(
    id="peak-regression",
    question="Did a metric peak early and fall back beyond its noise?",
    when="end",
    verdict=None,
    key="metrics",
    reasons=(Reason(id="regressed", status="warn", when="the metric fell from its best value beyond its noise"), FEW),
    at_end=metric_advisories,
)
ABOVE_CHANCE = Check(
    id="above-chance",
    question="When did a metric leave the level of a model that has learned nothing (`metrics.NAME.chance`)?",
    when="end",
    verdict=None,
    key="metrics",
    reasons=(
        Reason(id="at-chance", status="warn", when="the metric never stayed above chance"),
        Reason(id="only-at-the-end", status="pass", when="it is above chance at its last evaluation alone"),
        FEW,
    ),
)
TIME_TO_TARGET = Check(
    id="time-to-target",
    question="Will a metric reach its target in the full run (`metrics.NAME.target`)?",
    when="end",
    verdict=None,
    key="metrics",
    reasons=(
        Reason(id="still-improving", status="pass", when="it improves, and the full run is long enough"),
        Reason(id="too-slow", status="warn", when="it improves, but not fast enough for the full run"),
        Reason(id="flat-below-target", status="warn", when="it does not improve, and its noise cannot hide that"),
        Reason(id="worsening", status="warn", when="it moves away from its target"),
        Reason(id="unclear", status="pass", when="no trend is visible: the values are too noisy, or constant"),
        FEW,
    ),
)
EXPOSURE_BIAS = Check(
    id="exposure-bias",
    question="Does the model score reference answers well but generate none of them?",
    when="end",
    verdict=None,
    key="metrics",
    reasons=(
        Reason(id="exposure-bias", status="warn", when="teacher-forced metrics improve, free-running ones do not"),
        Reason(id="no-improvement", status="pass", when="the teacher-forced metrics do not improve either"),
        FEW,
    ),
)
METRICS = Check(
    id="metrics",
    question="Does `evaluate` return every metric that the recipe's `metrics` section names?",
    when="end",
    verdict=None,
    key="metrics",
    reasons=(Reason(id="missing-metric", status="warn", when="`evaluate` never returned a metric of that name"),),
)
FULL_ACCEPT = Check(
    id="full-accept",
    question="Does the smoke run record every metric that `checks.full_accept` names?",
    when="end",
    verdict=None,
    key="checks.full_accept",
    reasons=(Reason(id="missing-metric", status="warn", when="the smoke run never recorded a metric of that name"),),
)
ADVISORIES = (PEAK_REGRESSION, ABOVE_CHANCE, TIME_TO_TARGET, EXPOSURE_BIAS, METRICS, FULL_ACCEPT)
