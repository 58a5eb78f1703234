"""What a smoke cost, and what the full run would at the same pace."""

from __future__ import annotations

from typing import Any

from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.monitor.stage_monitor import StageMonitor
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.windows import Window


def stages(monitor: RunMonitor) -> list[dict[str, Any]]:
    """A row a stage, in order: its steps, its wall time, its loss (means of its first and last tenth), its verdict."""
    return [_stage(stage_monitor) for stage_monitor in monitor.stage_monitors if stage_monitor.window.span]


def costs(monitor: RunMonitor, case: Case) -> dict[str, Any]:
    """Pace of the training steps, without probes and evaluations, and the full run's time at that pace, an estimate."""
    ended = monitor.ended
    if ended is None or not monitor.steps or not ended.train_seconds > 0:
        return {}
    found: dict[str, Any] = {"samples_per_second": _pace(ended.steps, case, ended.train_seconds)}
    if not monitor.complete:
        return found
    found["smoke_to_full_steps"] = round(monitor.steps / case.full.max_steps, 6)
    each = [
        (stage_monitor.train_seconds if stage_monitor.window.span else ended.train_seconds, stage_monitor.window)
        for stage_monitor in monitor.stage_monitors
    ]
    full = sum((seconds or 0.0) / window.steps * window.case.full.max_steps for seconds, window in each)
    return found | {"estimated_full_seconds": round(full, 1)}


def tenths(losses: list[float]) -> dict[str, float]:
    """Means over the first and the last tenth."""
    tenth = max(1, len(losses) // 10)
    return {"loss_first": sum(losses[:tenth]) / tenth, "loss_last": sum(losses[-tenth:]) / tenth}


def _stage(stage_monitor: StageMonitor) -> dict[str, Any]:
    window, steps = stage_monitor.window, stage_monitor.steps
    row: dict[str, Any] = {
        "name": window.name,
        "first_step": window.first_step,
        "steps": len(steps),
        "planned_steps": window.steps,
        "evidence_steps": stage_monitor.evidence_steps,
        "full_steps": window.case.full.max_steps,
        "phases": [list(phase) for phase in window.span.phases] if window.span else [],
        "settings": _settings(window),
        "loss_verdict": _loss_verdict(stage_monitor),
        "criteria": stage_monitor.stage.status if stage_monitor.stage else None,
    }
    if steps:
        row |= tenths([one.loss for one in steps])
    if stage_monitor.train_seconds:
        row["train_seconds"] = round(stage_monitor.train_seconds, 3)
        row["samples_per_second"] = _pace(window.steps, window.case, stage_monitor.train_seconds)
    return row


def _settings(window: Window) -> dict[str, Any]:
    """What the stage was told to do; phases by the step they begin at, from the stage's own first."""
    assert window.span is not None
    full = window.case.full
    phases = {name: first - window.first_step for name, first in window.span.phases}
    return {
        "learning_rate": full.learning_rate,
        "warmup_steps": full.warmup_steps,
        "train": window.span.stage.train,
        "loss_weights": dict(full.loss_weights),
        **({"phases": phases} if phases else {}),
    }


def _loss_verdict(stage_monitor: StageMonitor) -> str | None:
    """The verdict on its loss; None for a stage that never began. A wiring run is none."""
    judgement = stage_monitor.judgement
    if judgement is None:
        return None
    return "wiring" if stage_monitor.is_wired(judgement) else judgement.verdict


def _pace(steps: int, case: Case, seconds: float) -> float:
    return round(steps * case.settings.effective_batch / seconds, 1)
