"""Figures of an outcome, with the unit in each name."""

from __future__ import annotations

from typing import Any

from pytest_smoke import schedules
from pytest_smoke.conduct.stand import Stand
from pytest_smoke.judge.main_metric import main_metric
from pytest_smoke.judge.preflight import evidence_needed, evidence_steps
from pytest_smoke.recipe.case import Case


def planned(case: Case) -> dict[str, Any]:
    """What is known before anything runs."""
    settings = case.settings
    changes = {"cell_changes": case.recipe.ablate[case.cell]} if case.cell is not None else {}
    return {
        **changes,
        "planned_steps": case.run_steps,
        "full_steps": case.full.max_steps,
        "evidence_steps": evidence_steps(case),
        "evidence_needed_steps": evidence_needed(case),
        "effective_batch_samples": settings.effective_batch,
        "learning_rate": settings.learning_rate,
        "precision": settings.precision,
        "seed": case.recipe.smoke.seed,
        "task": case.recipe.task,
        "settings": settings.model_dump(),
        "args": dict(case.recipe.args),
        "better": {name: spec.better for name, spec in case.recipe.metrics.items() if spec.better},
    }


def seen(stand: Stand, case: Case) -> dict[str, Any]:
    """What the run showed. `loss_first` and `loss_last` are means over its first and last tenth."""
    steps, started, ended = stand.trace.steps, stand.started, stand.ended
    facts: dict[str, Any] = {"steps": stand.steps}
    if started is not None:
        facts |= {"device": started.device, "device_name": started.device_name, "torch": started.torch}
        facts |= {"parameters": started.parameters, "trainable_parameters": started.trainable}
    if steps:
        peak = schedules.EVIDENCE_SHARE * case.full.learning_rate
        facts["evidence_steps"] = sum(row.lr >= peak for row in steps)
        tenth = max(1, len(steps) // 10)
        facts["loss_first"] = sum(row.loss for row in steps[:tenth]) / tenth
        facts["loss_last"] = sum(row.loss for row in steps[-tenth:]) / tenth
    declared = {name: spec.better for name, spec in case.recipe.metrics.items()}
    main = main_metric(case.recipe.checks.accept, stand.trace.metrics, declared)
    if main is not None:
        facts |= {"main_metric": main.name, "main_metric_better": main.better}
    if ended is not None:
        facts |= {"train_seconds": round(ended.train_seconds, 3), "peak_memory_gib": ended.peak_memory_gib}
    probe = stand.trace.autopsy or (stand.trace.gradients[-1] if stand.trace.gradients else None)
    if probe is not None:
        facts["gradient_norms"] = {
            "step": probe.step,
            "raw": dict(probe.raw),
            "weighted": dict(probe.weighted),
            "cosines": dict(probe.cosines),
        }
    return facts
