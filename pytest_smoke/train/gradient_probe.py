"""The gradients of a task's loss terms on some effective batches, at a checkpoint or at the start."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from pytest_smoke.errors import TaskError
from pytest_smoke.events import Gradients
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.batch_stream import BatchStream
from pytest_smoke.train.checkpoints.io import StateFile
from pytest_smoke.train.checkpoints.layout import TRAINING
from pytest_smoke.train.checkpoints.weights import load_weights, read_weights, state_at
from pytest_smoke.train.data import seeded_task
from pytest_smoke.train.gradients import reading
from pytest_smoke.train.instrumentation import POSTMORTEM_SEED_OFFSET
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.step import Stepper
from pytest_smoke.train.task import Task
from pytest_smoke.train.worker import settle

BACKOFF = 16.0
"""What a loss scale that overflows is divided by before the batch is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What was measured, and on what."""

    device: str
    step: int | None
    """Step of the smoke's checkpoint; None for other files and for the initial model."""
    kind: str
    """The smoke's name for its checkpoint; empty for other files."""
    weights: dict[str, float]
    """Weight by term."""
    batches: list[Gradients]
    """One reading an effective batch; `step` is its number."""


def probe(plan: RunPlan, checkpoint: Path | None, *, batches: int) -> Probed:
    """Differentiate each term on `batches` effective batches of `plan`, in this process.

    The model is in training mode, as it was when it was trained. Raises TaskError (for a checkpoint that does not fit
    CheckpointError), and whatever the task raises.
    """
    device = settle(plan)
    task = seeded_task(plan)
    stepper = Stepper(plan, task, device)
    state = state_at(checkpoint) if checkpoint is not None else None
    feed = _entered(plan, task, stepper, *_stage_of(plan, checkpoint, state))
    if checkpoint is not None:
        load_weights(stepper.model, read_weights(checkpoint), source=str(checkpoint))
    if state is not None and TRAINING in state.about["sha256"]:
        stepper.scaler.load_state_dict(state.training()["scaler"])
    if len(stepper.terms) < 2:
        raise TaskError(
            f"{plan.task} has one loss term, {stepper.terms[0]!r}: there is nothing to weigh it against; "
            "a probe needs losses(model, batch) to return two or more"
        )
    found = [_read(stepper, number, feed.draw()) for number in range(batches)]
    return Probed(
        device=str(device),
        weights=dict(zip(stepper.terms, stepper.weights, strict=True)),
        batches=found,
        **_origin(state),
    )


def _entered(plan: RunPlan, task: Task, stepper: Stepper, stage: Stage, step: int) -> BatchStream:
    """Enter the stages up to `stage` and its phases up to `step`, as a run does; what is drawn from there on.

    Drawn apart from the training order: a checkpoint has seen that.
    """
    seed = plan.seed + POSTMORTEM_SEED_OFFSET
    feed = BatchStream(task, plan, seed=seed)
    for entered in plan.stages:
        if entered.first_step:
            stepper.begin(entered)
        for at in dict.fromkeys([entered.first_step, *(first for _, first in entered.phases)]):
            if entered == stage and at > step:
                break
            if at > entered.first_step:
                stepper.enter_phase(at)
            feed.restart(seed)
            stepper.learn_terms(feed.draw()[0])
        if entered == stage:
            break
    feed.restart(seed)
    return feed


def _stage_of(plan: RunPlan, checkpoint: Path | None, state: StateFile | None) -> tuple[Stage, int]:
    """The stage that weights are of, and the step: a checkpoint says so, other files are of the end of a run."""
    if checkpoint is None:
        return plan.stages[0], 0
    if state is None:
        return plan.stages[-1], plan.run_steps
    known = next((stage for stage in plan.stages if stage.name == state.about.get("stage", "")), None)
    if known is None:
        names = ", ".join(stage.name for stage in plan.stages if stage.name) or "none"
        raise TaskError(f"{checkpoint} is of stage {state.about.get('stage')}; the recipe's stages are {names}")
    return known, state.step


def _read(stepper: Stepper, number: int, batches: list[Any]) -> Gradients:
    """A fresh loss scaler starts too high for many models, as it does in training: it backs off here, too."""
    while True:
        gradients, _ = stepper.differentiate(batches)
        found = reading(number, stepper.terms, stepper.weights, stepper.gram(gradients).tolist())
        scale = stepper.scaler.get_scale()
        if all(map(isfinite, found.raw.values())) or not stepper.scaler.is_enabled() or scale <= 1.0:
            return found
        stepper.scaler.update(scale / BACKOFF)


def _origin(state: StateFile | None) -> dict[str, Any]:
    return {"step": state.step, "kind": state.about["kind"]} if state else {"step": None, "kind": ""}
