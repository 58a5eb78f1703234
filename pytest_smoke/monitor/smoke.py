"""One smoke run: preflight, training, judging, and everything put into an outcome."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pytest_smoke.errors import BaselineError
from pytest_smoke.files import file_name, write_atomic
from pytest_smoke.judge.checks.baseline import baseline, unreadable_baseline
from pytest_smoke.judge.checks.loss import preflight_only
from pytest_smoke.judge.checks.prediction_errors import unreadable_predictions
from pytest_smoke.judge.checks.registry import DEFAULT, Registry
from pytest_smoke.judge.checks.resume import resumed
from pytest_smoke.judge.verdict import decide
from pytest_smoke.monitor.artifacts import (
    checkpoints_of,
    judge_predictions,
    pipeline_plan,
    predictions_of,
    saving_of,
)
from pytest_smoke.monitor.baseline import read_baseline
from pytest_smoke.monitor.child import Watch, run_here, run_in_child
from pytest_smoke.monitor.facts import checkpoint_facts, planned_facts, run_facts
from pytest_smoke.monitor.resume import check_resume
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.outcome import Facts, Finding, Outcome
from pytest_smoke.recipe.case import Case
from pytest_smoke.train.plan import RunPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How smoke runs are executed in this session."""

    root: str
    """Folder that tasks are imported from."""
    device: str = "auto"
    """`auto`, `cpu`, `mps`, `cuda` or `cuda:N`."""
    isolation: Literal["process", "none"] = "process"
    """`process`: train in a training process; `none`: in this one, for debuggers."""
    timeout_seconds: float | None = None
    """Longest time without progress; None: no limit."""
    early_stop: bool = True
    """Whether a run stops as soon as its verdict is certain."""
    preflight_only: bool = False
    """Whether only the checks that need no run are made."""
    report_folder: Path | None = None
    """Where `traces/*.csv`, `checkpoints/` and `packages/` go; None: nowhere."""
    resume: bool = False
    """Whether runs continue from what an earlier session left in the report folder."""
    registry: Registry = field(default=DEFAULT, repr=False)
    """The checks to make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeResult:
    """A smoke run that was executed."""

    outcome: Outcome
    error: Exception | None = None
    """What the task raised, if it ran in this process."""


def run_smoke(case: Case, options: RunOptions, *, item_id: str, watch: Watch | None = None) -> SmokeResult:
    """Execute the smoke run `case` of an item, and judge it. Raises OSError if files cannot be written."""
    started = time.perf_counter()
    findings = options.registry.before_run(case)
    baseline_values: Mapping[str, float] | None = None
    if case.recipe.checks.baseline is not None and not options.preflight_only:
        baseline_values, finding = _baseline(case, options, item_id)
        findings.append(finding)
    facts = planned_facts(case, root=Path(options.root))
    failed = any(finding.status == "fail" for finding in findings)
    if options.preflight_only and not failed:
        findings.append(preflight_only())
    if options.preflight_only or failed:
        return SmokeResult(outcome=_outcome(case, item_id, findings, facts, options.registry))

    monitor = RunMonitor(case, early_stop=options.early_stop, baseline=baseline_values, registry=options.registry)
    report = options.report_folder
    package = report / "packages" / file_name(item_id) if report else None
    with ExitStack() as stack:
        pipeline = stack.enter_context(pipeline_plan(case, package))
        saving = stack.enter_context(saving_of(case, report, item_id=item_id, resume=options.resume))
        predictions = stack.enter_context(predictions_of(case, report, item_id=item_id))
        plan = replace(
            RunPlan.of(case, root=options.root, device=options.device, checkpoints=saving),
            pipeline=pipeline,
            predictions=str(predictions) if predictions else None,
        )
        if options.isolation == "none":
            result = run_here(plan, monitor, watch)
        else:
            result = run_in_child(plan, monitor, options.timeout_seconds, watch)
        resume_findings = check_resume(case, plan, monitor, options.timeout_seconds)
        prediction_findings = (
            [unreadable_predictions(monitor.predictions_error)]
            if monitor.predictions_error
            else judge_predictions(predictions)
        )
    findings += [
        *resumed(sorted(monitor.trace.resumed_at), monitor.restart_reason),
        result.finding,
        *monitor.early_findings.values(),
        *monitor.judge_loss(),
        *options.registry.at_end(monitor),
        *resume_findings,
        *prediction_findings,
    ]
    facts = checkpoint_facts(run_facts(facts, monitor, case), monitor, checkpoints_of(item_id))
    facts = replace(
        facts,
        seconds=round(monitor.seconds_before + time.perf_counter() - started, 3),
        package=str(package) if package is not None and package.exists() else None,
    )
    if report is not None and monitor.steps:
        write_atomic(report / "traces" / f"{file_name(item_id)}.csv", monitor.trace.to_csv())
    outcome = _outcome(case, item_id, findings, facts, options.registry, monitor=monitor, output=result.output)
    return SmokeResult(outcome=outcome, error=result.error)


def skipped_outcome(case: Case, why: str, *, item_id: str, root: Path) -> Outcome:
    """Return the outcome of a smoke run that this machine cannot execute."""
    finding = Finding(id="run", status="not-checked", reason="unmet-requirements", text=why, key="requires")
    return _outcome(case, item_id, [finding], planned_facts(case, root=root), DEFAULT)


def _baseline(case: Case, options: RunOptions, item_id: str) -> tuple[Mapping[str, float] | None, Finding]:
    try:
        values = read_baseline(case, root=Path(options.root), item_id=item_id)
    except BaselineError as error:
        return None, unreadable_baseline(error)
    return values, baseline(case, values)


def _outcome(
    case: Case,
    item_id: str,
    findings: Sequence[Finding],
    facts: Facts,
    registry: Registry,
    *,
    monitor: RunMonitor | None = None,
    output: str = "",
) -> Outcome:
    completed = registry.completed(findings)
    verdict = decide(completed, registry)
    metrics = monitor.trace.metrics if monitor else {}
    return Outcome(
        id=item_id,
        recipe=case.path,
        mode=case.mode,
        cell=case.cell,
        verdict=verdict.word,
        reason=verdict.reason,
        step=verdict.step,
        text=verdict.text,
        decided_by=verdict.decided_by,
        findings=tuple(completed),
        facts=facts,
        curve=monitor.trace.curve() if monitor else {},
        metrics={name: [list(point) for point in points] for name, points in metrics.items()},
        output=output,
    )
