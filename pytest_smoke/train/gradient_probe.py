"""Probe the gradients of a task's loss terms on a few effective batches, with a checkpoint's weights or new ones."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from pytest_smoke.errors import TaskError
from pytest_smoke.events import Gradients
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.task import Task
from pytest_smoke.text import listed
from pytest_smoke.train.checkpoints.io import StateFile, load_weights, read_weights, state_at
from pytest_smoke.train.checkpoints.layout import TRAINING
from pytest_smoke.train.data import BatchStream, seeded_task
from pytest_smoke.train.gradients import gradients_event
from pytest_smoke.train.instrumentation import POSTMORTEM_SEED_OFFSET
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.step import Stepper
from pytest_smoke.train.worker import prepare_process

BACKOFF = 16.0
"""Divisor of a loss scale that overflows, before the batch is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """The gradients of the loss terms, and what they were measured on."""

    device: str
    step: int | None
    """Step of a smoke run's checkpoint; None for other files and for new weights."""
    kind: str
    """Kind of a smoke run's checkpoint (`trained`, `last-good`); empty for other files and for new weights."""
    weights: dict[str, float]
    """Weight by loss term."""
    batches: list[Gradients]
    """One gradient probe per effective batch; `step` is its number."""


def probe(plan: RunPlan, checkpoint: Path | None, *, batches: int) -> ProbeResult:
    """Differentiate each loss term on `batches` effective batches of `plan`, in this process.

    The model is in training mode. Raises TaskError (CheckpointError for a checkpoint that does not fit), and whatever
    the task raises.
    """
    device = prepare_process(plan)
    task = seeded_task(plan)
    stepper = Stepper(plan, task, device)
    state = state_at(checkpoint) if checkpoint is not None else None
    stream = _enter(plan, task, stepper, *_stage_of(plan, checkpoint, state))
    if checkpoint is not None:
        load_weights(stepper.model, read_weights(checkpoint), source=str(checkpoint))
    if state is not None and TRAINING in state.about["sha256"]:
        stepper.scaler.load_state_dict(state.training()["scaler"])
    if len(stepper.terms) < 2:
        raise TaskError(
            f"{plan.task} has one loss term, {stepper.terms[0]!r}: a gradient probe compares two or more terms of "
            "losses(model, batch)"
        )
    probes = [_probe_batch(stepper, number, stream.draw()) for number in range(batches)]
    return ProbeResult(
        device=str(device),
        step=state.step if state else None,
        kind=state.about["kind"] if state else "",
        weights=dict(zip(stepper.terms, stepper.weights, strict=True)),
        batches=probes,
    )


def _enter(plan: RunPlan, task: Task, stepper: Stepper, stage: Stage, step: int) -> BatchStream:
    """Start the stages up to `stage` and its phases up to `step`, as a run does; return the batches from there on.

    Their seed is not that of the training batches, because a checkpoint was trained on those.
    """
    seed = plan.seed + POSTMORTEM_SEED_OFFSET
    stream = BatchStream(task, plan, seed=seed)
    for entered in plan.stages:
        if entered.first_step:
            stepper.start_stage(entered)
        for first in dict.fromkeys([entered.first_step, *(first for _, first in entered.phases)]):
            if entered == stage and first > step:
                break
            if first > entered.first_step:
                stepper.start_phase(first)
            stream.restart(seed)
            stepper.learn_terms(stream.draw()[0])
        if entered == stage:
            break
    stream.restart(seed)
    return stream


def _stage_of(plan: RunPlan, checkpoint: Path | None, state: StateFile | None) -> tuple[Stage, int]:
    """Return the stage and step of the weights: a checkpoint names them, any other file is from the end of a run."""
    if checkpoint is None:
        return plan.stages[0], 0
    if state is None:
        return plan.stages[-1], plan.run_steps
    name = state.about.get("stage", "")
    stage = next((stage for stage in plan.stages if stage.name == name), None)
    if stage is None:
        names = listed(stage.name for stage in plan.stages if stage.name)
        raise TaskError(f"{checkpoint} was saved in stage {name!r}, but the recipe's stages are: {names}")
    return stage, state.step


def _probe_batch(stepper: Stepper, number: int, batches: list[Any]) -> Gradients:
    """Probe one effective batch, with a smaller loss scale if the gradients overflow.

    The initial scale of a loss scaler is too large for many models; in training it is reduced in the first steps.
    """
    while True:
        gradients, _ = stepper.differentiate(batches)
        event = gradients_event(number, stepper.terms, stepper.weights, stepper.gram(gradients).tolist())
        scale = stepper.scaler.get_scale()
        if all(map(isfinite, event.raw.values())) or not stepper.scaler.is_enabled() or scale <= 1.0:
            return event
        stepper.scaler.update(scale / BACKOFF)
