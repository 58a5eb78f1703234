"""The facts of an outcome: what was planned, what the run showed, what it cost, and where it ran."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_smoke.environment import git_commit, repository_folder, versions
from pytest_smoke.events import SourceFiles
from pytest_smoke.judge.checks.schedule import evidence_needed, evidence_steps
from pytest_smoke.judge.metrics.main_metric import main_metric
from pytest_smoke.monitor.run_monitor import RunMonitor, StageMonitor
from pytest_smoke.outcome import CheckpointFacts, Facts, GradientFacts, StageFacts
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.checkpoints.layout import LAST_GOOD, TRAINED


def planned_facts(case: Case, *, root: Path) -> Facts:
    """Return what is known before anything runs; without the settings that are still to be read from the trainer."""
    known: dict[str, Any] = {}
    if case.is_complete:
        known = _facts_of_settings(case)
    return Facts(
        cell_changes=None if case.cell is None else case.recipe.ablate[case.cell],
        planned_steps=case.run_steps,
        seed=case.recipe.smoke.seed,
        task=case.recipe.import_path,
        args=dict(case.recipe.args),
        better={name: spec.better for name, spec in case.recipe.metrics.items() if spec.better},
        full_accept=tuple(case.recipe.checks.full_accept),
        recipe_text=case.text or None,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        repository_folder=repository_folder(root),
        git_commit=git_commit(root),
        versions=versions(),
        **known,
    )


def _facts_of_settings(case: Case) -> dict[str, Any]:
    settings = case.settings
    return {
        "full_steps": case.full.max_steps,
        "evidence_steps": sum(evidence_steps(case.mode, stage) for stage in case.stages),
        "evidence_needed_steps": sum(evidence_needed(case.mode, stage) for stage in case.stages),
        "effective_batch_samples": settings.effective_batch,
        "learning_rate": settings.learning_rate,
        "precision": settings.precision,
        "settings": settings.model_dump(),
        "launched_world_size": case.recipe.processes if case.recipe.launch is not None else None,
        "not_shown": not_shown(case.full.world_size, case.recipe.processes) if case.recipe.trainer == "task" else (),
    }


def not_shown(full: int, processes: int) -> tuple[str, ...]:
    """Return which effects of `full` data-parallel devices a run with fewer processes cannot show."""
    if processes >= full:
        return ()
    number, communication = "one", "communication between them"
    if processes > 1:
        number = f"{processes:,}"
        communication = f"communication between more than {processes}"
    return (
        f"the full run's {full:,} data-parallel devices were folded onto {number}: {communication}, and "
        "statistics that each device has of its own batches, as in batch norm and contrastive losses",
    )


def run_facts(facts: Facts, monitor: RunMonitor, case: Case) -> Facts:
    """Add what the run showed."""
    steps, started, ended = monitor.trace.steps, monitor.started, monitor.ended
    known: dict[str, Any] = {"steps": monitor.steps, "versions": dict(facts.versions)}
    for event in monitor.events(SourceFiles):
        known["versions"] |= event.versions
    if started is not None:
        known |= {"device": started.device, "device_name": started.device_name, "torch": started.torch}
        known |= {"parameters": started.parameters, "trainable_parameters": started.trainable}
    if monitor.trace.initial_metrics:
        known["initial_metrics"] = monitor.trace.initial_metrics
    if steps:
        known["evidence_steps"] = sum(view.evidence_steps for view in monitor.stages)
        known |= first_and_last_tenth([row.loss for row in steps])
        known["last_values"] = monitor.trace.last_values()
    declared = {name: spec.better for name, spec in case.recipe.metrics.items()}
    main = main_metric(case.recipe.checks.accept, monitor.trace.metrics, declared)
    if main is not None:
        known |= {"main_metric": main.name, "main_metric_better": main.better}
    if ended is not None:
        known |= {
            "train_seconds": round(ended.train_seconds, 3),
            "peak_memory_gib": ended.peak_memory_gib,
            "utilization_percent": ended.utilization_percent,
        }
    probe = monitor.trace.postmortem or (monitor.trace.gradients[-1] if monitor.trace.gradients else None)
    if probe is not None:
        known["gradient_norms"] = GradientFacts(
            step=probe.step, raw=dict(probe.raw), weighted=dict(probe.weighted), cosines=dict(probe.cosines)
        )
    return replace(
        facts,
        **known,
        **_throughput(monitor, case),
        resumed_at_steps=tuple(sorted(monitor.trace.resumed_at)),
        stages=tuple(_stage_facts(view, case) for view in monitor.stages if view.stage.name),
        smallest_rise=monitor.smallest_rise,
        smallest_rise_share=monitor.smallest_rise_share,
    )


def checkpoint_facts(facts: Facts, monitor: RunMonitor, folder: str) -> Facts:
    """Add the checkpoints that were written, and those that could not be. `folder`: relative to the report folder."""
    written = tuple(
        CheckpointFacts(kind=one.kind, step=one.step, folder=f"{folder}/{one.folder}")
        for one in monitor.saved
        if one.folder and one.kind in (TRAINED, LAST_GOOD)
    )
    problems = tuple(
        f"the {one.kind} checkpoint could not be written: {one.problem}" for one in monitor.saved if one.problem
    )
    return replace(facts, checkpoints=written, checkpoint_problems=problems)


def first_and_last_tenth(losses: list[float]) -> dict[str, float]:
    """Return the mean loss over the first and over the last tenth."""
    tenth = max(1, len(losses) // 10)
    return {"loss_first": sum(losses[:tenth]) / tenth, "loss_last": sum(losses[-tenth:]) / tenth}


def _throughput(monitor: RunMonitor, case: Case) -> dict[str, Any]:
    """Return the throughput of the training steps, and an estimate of the full run's time at it."""
    ended = monitor.ended
    if ended is None or not monitor.steps or not ended.train_seconds > 0:
        return {}
    found: dict[str, Any] = {"samples_per_second": _samples_per_second(ended.steps, case, ended.train_seconds)}
    if not monitor.complete:
        return found
    full_seconds = sum(
        ((view.train_seconds if view.stage.name else ended.train_seconds) or 0.0)
        / view.stage.steps
        * view.stage.full_steps
        for view in monitor.stages
    )
    return found | {
        "smoke_to_full_steps": round(monitor.steps / case.full.max_steps, 6),
        "estimated_full_seconds": round(full_seconds, 1),
    }


def _stage_facts(view: StageMonitor, case: Case) -> StageFacts:
    stage, steps = view.stage, view.steps
    losses = first_and_last_tenth([one.loss for one in steps]) if steps else {}
    facts = StageFacts(
        name=stage.name,
        first_step=stage.first_step,
        steps=len(steps),
        planned_steps=stage.steps,
        evidence_steps=view.evidence_steps,
        full_steps=stage.full_steps,
        phases=stage.phases,
        settings=_stage_settings(stage),
        loss_verdict=_loss_verdict(view),
        criteria=view.criteria.status if view.criteria else None,
        loss_first=losses.get("loss_first"),
        loss_last=losses.get("loss_last"),
    )
    if not view.train_seconds:
        return facts
    return replace(
        facts,
        train_seconds=round(view.train_seconds, 3),
        samples_per_second=_samples_per_second(stage.steps, case, view.train_seconds),
    )


def _stage_settings(stage: Stage) -> dict[str, Any]:
    """Return the stage's own settings; phases by their first step, counted from the stage's first."""
    phases = {name: first - stage.first_step for name, first in stage.phases}
    return {
        "learning_rate": stage.full_learning_rate,
        "warmup_steps": stage.full_warmup_steps,
        "train": None if stage.train is None else list(stage.train),
        "loss_weights": dict(stage.loss_weights),
        **({"phases": phases} if phases else {}),
    }


def _loss_verdict(view: StageMonitor) -> str | None:
    curve = view.curve
    if curve is None:
        return None
    return "wiring" if view.is_wiring and curve.verdict != "unstable" else curve.verdict


def _samples_per_second(steps: int, case: Case, seconds: float) -> float:
    return round(steps * case.settings.effective_batch / seconds, 1)
