"""The stages of a recipe: what is trained in which order, for how long, and with which settings of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from pytest_smoke.recipe.fields import Count, CriterionText, Finite, Frozen, Positive, Steps

Name = Annotated[str, Field(pattern=r"^[\w.+-]+$")]


class Phase(Frozen):
    """A part of a stage in which the task does something else, such as text before latents."""

    name: Name
    """What the task's `enter` is told."""
    steps: Count | None = None
    """The smoke's length of the phase, in optimizer steps; the last phase takes the rest of its stage."""
    epochs: Count | None = None
    """The same in epochs of the stage's `steps_per_epoch`."""


class Stage(Frozen):
    """One stage. What is not named here is as under `full`, in the smoke and in the full run alike."""

    name: Name
    """What verdicts, criteria and the task's `enter` call it."""
    full_steps: Count | None = None
    """The full run's length of the stage, in optimizer steps."""
    full_epochs: Count | None = None
    """The same in epochs of `full_steps_per_epoch`."""
    full_steps_per_epoch: Count | None = None
    """Optimizer steps in one epoch of the full run's stage."""
    steps: Count | None = None
    """The smoke's length of the stage, in optimizer steps."""
    epochs: Count | None = None
    """The same in epochs of `steps_per_epoch`."""
    steps_per_epoch: Count | None = None
    """Optimizer steps in one epoch of the smoke's stage; absent: `smoke.steps_per_epoch`."""
    train: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = None
    """Globs over parameter names (`encoder.*`): these train, the rest is frozen; absent: what the model says itself."""
    learning_rate: Positive | None = None
    """Peak learning rate of the stage; absent: `full.learning_rate`."""
    warmup_steps: Steps | None = None
    """Steps of linear warm-up at the start of the stage; absent: `full.warmup_steps`."""
    loss_weights: dict[str, Finite] = {}
    """Weight by loss term, over those under `full`."""
    phases: Annotated[list[Phase], Field(max_length=10)] = []
    """Phases of the stage, in order."""
    accept: list[CriterionText] = []
    """Criteria over this stage alone, its first step being 0; where one fails, the next stage does not start."""
    continue_on_fail: bool = False
    """Go on to the next stage where a criterion of this one fails; the smoke is not promoted all the same."""


_STAGES = TypeAdapter(list[Stage])


def epoch_steps(stage: Stage, smoke_steps_per_epoch: int | None) -> int | None:
    """Optimizer steps in one epoch of the smoke's stage; None where none is declared."""
    return stage.steps_per_epoch or smoke_steps_per_epoch


def smoke_steps(stage: Stage, smoke_steps_per_epoch: int | None) -> int:
    """The smoke's length of a stage, in optimizer steps; 0 where the recipe does not say it."""
    return stage.steps or (stage.epochs or 0) * (epoch_steps(stage, smoke_steps_per_epoch) or 0)


def full_steps(stage: Stage) -> int:
    """The full run's length of a stage, in optimizer steps; 0 where the recipe does not say it."""
    return stage.full_steps or (stage.full_epochs or 0) * (stage.full_steps_per_epoch or 0)


def phase_lengths(stage: Stage, smoke_steps_per_epoch: int | None) -> list[int]:
    """The smoke's lengths of the phases, in optimizer steps; the last takes what is left of the stage."""
    per_epoch = epoch_steps(stage, smoke_steps_per_epoch) or 0
    lengths = [phase.steps or (phase.epochs or 0) * per_epoch for phase in stage.phases]
    return [*lengths[:-1], smoke_steps(stage, smoke_steps_per_epoch) - sum(lengths[:-1])] if lengths else []


def with_lengths(data: Any) -> Any:
    """A recipe's raw data with `full.max_steps` and `smoke.max_steps` where the stages alone say them.

    Stages with faults of their own count as one step: they are reported, and a missing length is not their fault.
    """
    if not isinstance(data, Mapping) or not data.get("stages"):
        return data
    smoke = data.get("smoke")
    per_epoch = smoke.get("steps_per_epoch") if isinstance(smoke, Mapping) else None
    per_epoch = per_epoch if isinstance(per_epoch, int) else None
    try:
        stages = _STAGES.validate_python(data["stages"])
    except ValidationError:
        stages = []
    sums = {
        "full": sum(map(full_steps, stages)) or 1,
        "smoke": sum(smoke_steps(stage, per_epoch) for stage in stages) or 1,
    }
    return dict(data) | {
        key: {"max_steps": steps, **data[key]} for key, steps in sums.items() if isinstance(data.get(key), Mapping)
    }
