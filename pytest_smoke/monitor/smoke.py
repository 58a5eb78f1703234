"""Conduct one smoke: preflight, run, judge, and put it all into an outcome."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pytest_smoke.errors import BaselineError
from pytest_smoke.files import file_name, write_atomic
from pytest_smoke.judge.checks.prediction_errors import unreadable
from pytest_smoke.judge.checks.preflight import preflight
from pytest_smoke.judge.verdict import decide
from pytest_smoke.monitor import facts
from pytest_smoke.monitor.baseline import baseline_finding, no_baseline, read_baseline
from pytest_smoke.monitor.checkpoints import checkpoints_of, saving_of
from pytest_smoke.monitor.child import Watch, run_here, run_in_child
from pytest_smoke.monitor.final_findings import judge_loss, judge_pipeline, judge_rest
from pytest_smoke.monitor.package import pipeline_plan
from pytest_smoke.monitor.predictions import errors_in, predictions_of
from pytest_smoke.monitor.resume import begun, check_resume
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.outcome import Finding, Outcome
from pytest_smoke.recipe.case import Case
from pytest_smoke.train.plan import RunPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How smokes are conducted in this session."""

    root: str
    """Folder that tasks' import paths are resolved from."""
    device: str = "auto"
    isolation: Literal["process", "none"] = "process"
    timeout_seconds: float | None = None
    """Longest silence of a child; None: none."""
    early_stop: bool = True
    preflight_only: bool = False
    report_folder: Path | None = None
    """Where `traces/*.csv`, `checkpoints/` and `packages/` go; None: nowhere, packages are checked all the same."""
    resume: bool = False
    """Whether smokes go on from what an earlier session left in the report folder, and leave the like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeResult:
    """A smoke that was conducted."""

    outcome: Outcome
    error: Exception | None = None
    """What the task raised, where it ran in this process."""


def run_smoke(case: Case, conditions: RunOptions, *, id: str, watch: Watch | None = None) -> SmokeResult:
    """Run the smoke `case`, the item `id`, and judge it."""
    began = time.perf_counter()
    findings = preflight(case)
    baseline = None
    if case.recipe.checks.baseline is not None and not conditions.preflight_only:
        baseline, found = _baseline(case, conditions, id)
        findings.append(found)
    figures = facts.planned(case)
    if conditions.preflight_only and all(finding.status != "fail" for finding in findings):
        text = "preflight passed; nothing was run"
        findings.append(Finding(id="loss-trend", status="not-checked", reason="preflight", text=text))
    if conditions.preflight_only or any(finding.status == "fail" for finding in findings):
        return SmokeResult(outcome=_outcome(case, id, findings, figures))

    shares = next((finding.data["shares"] for finding in findings if finding.id == "mix"), None)
    monitor = RunMonitor(case, early_stop=conditions.early_stop, mix_shares=shares, baseline=baseline)
    kept = conditions.report_folder / "packages" / file_name(id) if conditions.report_folder else None
    saved = saving_of(case, conditions.report_folder, id=id, resume=conditions.resume)
    predicted = predictions_of(case, conditions.report_folder, id)
    with pipeline_plan(case, kept) as pipeline, saved as saving, predicted as predictions:
        plan = RunPlan.of(case, root=conditions.root, device=conditions.device, saving=saving)
        plan = replace(plan, pipeline=pipeline, predictions=str(predictions) if predictions else None)
        if conditions.isolation == "none":
            ran = run_here(plan, monitor, watch)
        else:
            ran = run_in_child(plan, monitor, conditions.timeout_seconds, watch)
        resumed = check_resume(case, plan, monitor, conditions.timeout_seconds)
        mistakes = [unreadable(monitor.predictions_error)] if monitor.predictions_error else errors_in(predictions)
    loss, smallest_rise = judge_loss(monitor)
    findings += [*begun(monitor), ran.finding, *monitor.fairness.values(), *loss, *judge_rest(monitor)]
    findings += [*judge_pipeline(monitor), *resumed, *mistakes]
    figures |= facts.seen(monitor, case) | facts.saved(monitor, checkpoints_of(id)) | {"smallest_rise": smallest_rise}
    figures["seconds"] = round(monitor.seconds_before + time.perf_counter() - began, 3)
    if conditions.report_folder is not None and monitor.steps:
        write_atomic(conditions.report_folder / "traces" / f"{file_name(id)}.csv", monitor.trace.to_csv())
    if kept is not None and kept.exists():
        figures["package"] = str(kept)
    outcome = _outcome(case, id, findings, figures, monitor=monitor, output=ran.output)
    return SmokeResult(outcome=outcome, error=ran.error)


def _baseline(case: Case, conditions: RunOptions, id: str) -> tuple[Mapping[str, float] | None, Finding]:
    try:
        values = read_baseline(case, root=Path(conditions.root), id=id)
    except BaselineError as error:
        return None, no_baseline(error)
    return values, baseline_finding(case, values)


def skipped_outcome(case: Case, why: str, *, id: str) -> Outcome:
    """The outcome of a smoke that this machine cannot run."""
    finding = Finding(id="run", status="not-checked", reason="requires", text=why)
    return _outcome(case, id, [finding], facts.planned(case))


def _outcome(
    case: Case,
    id: str,
    findings: Sequence[Finding],
    figures: Mapping[str, Any],
    *,
    monitor: RunMonitor | None = None,
    output: str = "",
) -> Outcome:
    verdict = decide(findings)
    metrics = monitor.trace.metrics if monitor else {}
    return Outcome(
        id=id,
        recipe=case.path,
        mode=case.mode,
        cell=case.cell,
        verdict=verdict.word,
        reason=verdict.reason,
        step=verdict.step,
        text=verdict.text,
        findings=tuple(findings),
        facts=figures,
        curve=monitor.trace.curve() if monitor else {},
        metrics={name: [list(point) for point in points] for name, points in metrics.items()},
        output=output,
    )
