"""Figures of an outcome, with the unit in each name."""

from __future__ import annotations

from typing import Any

from pytest_smoke.judge.checks.preflight import evidence_needed, evidence_steps
from pytest_smoke.judge.metrics.main_metric import main_metric
from pytest_smoke.monitor.costs import costs, stages, tenths
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.windows import windows_of
from pytest_smoke.train.checkpoints.layout import LAST_GOOD, TRAINED


def planned(case: Case) -> dict[str, Any]:
    """What is known before anything runs."""
    settings, windows = case.settings, [window.case for window in windows_of(case)]
    facts: dict[str, Any] = {"cell_changes": case.recipe.ablate[case.cell]} if case.cell is not None else {}
    facts |= {
        "planned_steps": case.run_steps,
        "full_steps": case.full.max_steps,
        "evidence_steps": sum(map(evidence_steps, windows)),
        "evidence_needed_steps": sum(map(evidence_needed, windows)),
        "effective_batch_samples": settings.effective_batch,
        "learning_rate": settings.learning_rate,
        "precision": settings.precision,
        "seed": case.recipe.smoke.seed,
        "task": case.recipe.task,
        "settings": settings.model_dump(),
        "args": dict(case.recipe.args),
        "better": {name: spec.better for name, spec in case.recipe.metrics.items() if spec.better},
    }
    full_accept = case.recipe.checks.full_accept
    return facts | ({"full_accept": list(full_accept)} if full_accept else {})


def seen(monitor: RunMonitor, case: Case) -> dict[str, Any]:
    """What the run showed. `loss_first` and `loss_last` are means over its first and last tenth."""
    steps, started, ended = monitor.trace.steps, monitor.started, monitor.ended
    facts: dict[str, Any] = {"steps": monitor.steps}
    if started is not None:
        facts |= {"device": started.device, "device_name": started.device_name, "torch": started.torch}
        facts |= {"parameters": started.parameters, "trainable_parameters": started.trainable}
    if steps:
        facts["evidence_steps"] = sum(stage_monitor.evidence_steps for stage_monitor in monitor.stage_monitors)
        facts |= tenths([row.loss for row in steps])
        facts["last_values"] = monitor.trace.last_values()
    if monitor.trace.cuts:
        facts["resumed_at_steps"] = sorted(monitor.trace.cuts)
    declared = {name: spec.better for name, spec in case.recipe.metrics.items()}
    main = main_metric(case.recipe.checks.accept, monitor.trace.metrics, declared)
    if main is not None:
        facts |= {"main_metric": main.name, "main_metric_better": main.better}
    if ended is not None:
        facts |= {"train_seconds": round(ended.train_seconds, 3), "peak_memory_gib": ended.peak_memory_gib}
        if ended.utilization_percent is not None:
            facts["utilization_percent"] = ended.utilization_percent
    facts |= costs(monitor, case)
    if case.recipe.stages:
        facts["stages"] = stages(monitor)
    probe = monitor.trace.postmortem or (monitor.trace.gradients[-1] if monitor.trace.gradients else None)
    if probe is not None:
        facts["gradient_norms"] = {
            "step": probe.step,
            "raw": dict(probe.raw),
            "weighted": dict(probe.weighted),
            "cosines": dict(probe.cosines),
        }
    return facts


def saved(monitor: RunMonitor, folder: str) -> dict[str, Any]:
    """The checkpoints that were written, and those that could not be. `folder`: theirs, from the report's."""
    kept = [
        {"kind": one.kind, "step": one.step, "folder": f"{folder}/{one.folder}"}
        for one in monitor.saved
        if one.folder and one.kind in (TRAINED, LAST_GOOD)
    ]
    lost = [f"{one.kind} checkpoint: {one.problem}" for one in monitor.saved if one.problem]
    return ({"checkpoints": kept} if kept else {}) | ({"checkpoint_problems": lost} if lost else {})
