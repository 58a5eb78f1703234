"""The stages of a run: what a recipe declares of them, and where they are on the steps of a smoke run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from pytest_smoke.recipe.fields import Count, CriterionText, Finite, Frozen, Positive, Steps

if TYPE_CHECKING:
    from pytest_smoke.recipe.model import Recipe, Settings

Name = Annotated[str, Field(pattern=r"^[\w.+-]+$")]


class PhaseSpec(Frozen):
    """A part of a stage in which the task does something different, such as other data or other loss terms."""

    name: Name
    """Name of the phase, passed to the task's `on_stage_start`."""
    steps: Count | None = None
    """Length of the phase in the smoke run, in optimizer steps. The last phase has the rest of the stage."""
    epochs: Count | None = None
    """Length of the phase in the smoke run, in epochs of the stage's `steps_per_epoch`. An alternative to `steps`."""


class StageSpec(Frozen):
    """One stage of the run. Every setting that is left out is the one in `full`, for the smoke run and the full run."""

    name: Name
    """Name of the stage in verdicts and criteria, passed to the task's `on_stage_start`."""
    full_steps: Count | None = None
    """Length of the stage in the full run, in optimizer steps."""
    full_epochs: Count | None = None
    """Length of the stage in the full run, in epochs of `full_steps_per_epoch`. An alternative to `full_steps`."""
    full_steps_per_epoch: Count | None = None
    """Optimizer steps in one epoch of the stage in the full run."""
    steps: Count | None = None
    """Length of the stage in the smoke run, in optimizer steps."""
    epochs: Count | None = None
    """Length of the stage in the smoke run, in epochs of `steps_per_epoch`. An alternative to `steps`."""
    steps_per_epoch: Count | None = None
    """Optimizer steps in one epoch of the stage in the smoke run. Default: `smoke.steps_per_epoch`."""
    train: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = None
    """Globs over parameter names, such as `encoder.*`. Matching parameters train, all others are frozen. Default: every
    parameter that requires a gradient."""
    learning_rate: Positive | None = None
    """Peak learning rate of the stage. Default: `full.learning_rate`."""
    warmup_steps: Steps | None = None
    """Optimizer steps of linear warmup at the start of the stage. Default: `full.warmup_steps`."""
    loss_weights: dict[str, Finite] = {}
    """Weight of each loss term, by name. Terms that are not listed have the weight in `full`."""
    phases: Annotated[list[PhaseSpec], Field(max_length=10)] = []
    """Phases of the stage, in order."""
    accept: list[CriterionText] = []
    """Criteria on this stage alone, whose first step counts as 0. If one fails, the next stage does not start."""
    continue_on_fail: bool = False
    """Start the next stage even if a criterion fails. The smoke run is still not promoted."""


_STAGES = TypeAdapter(list[StageSpec])


def epoch_steps(stage: StageSpec, smoke_steps_per_epoch: int | None) -> int | None:
    """Return the optimizer steps in one epoch of the stage in the smoke run; None if the recipe does not declare it."""
    return stage.steps_per_epoch or smoke_steps_per_epoch


def smoke_steps(stage: StageSpec, smoke_steps_per_epoch: int | None) -> int:
    """Return the length of a stage in the smoke run, in optimizer steps; 0 if the recipe does not declare it."""
    return stage.steps or (stage.epochs or 0) * (epoch_steps(stage, smoke_steps_per_epoch) or 0)


def full_steps(stage: StageSpec) -> int:
    """Return the length of a stage in the full run, in optimizer steps; 0 if the recipe does not declare it."""
    return stage.full_steps or (stage.full_epochs or 0) * (stage.full_steps_per_epoch or 0)


def phase_lengths(stage: StageSpec, smoke_steps_per_epoch: int | None) -> list[int]:
    """Return the lengths of the phases in the smoke run, in optimizer steps; the last has the rest of the stage."""
    per_epoch = epoch_steps(stage, smoke_steps_per_epoch) or 0
    lengths = [phase.steps or (phase.epochs or 0) * per_epoch for phase in stage.phases]
    return [*lengths[:-1], smoke_steps(stage, smoke_steps_per_epoch) - sum(lengths[:-1])] if lengths else []


def with_lengths(data: Any) -> Any:
    """Add `full.max_steps` and `smoke.max_steps` to a recipe's raw data, if only the stages declare them.

    Stages that are not valid count as one step, so that the missing length is not reported as another fault.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage of a smoke run, or the whole run if the recipe declares none: its place, its settings, its criteria."""

    name: str = ""
    """Empty if the recipe declares no stages."""
    number: int = 0
    """Position in the recipe's `stages`."""
    first_step: int = 0
    """First optimizer step in the smoke run; stages follow each other without a gap."""
    steps: int
    """Optimizer steps that the smoke run makes in it, at least 1."""
    phases: tuple[tuple[str, int], ...] = ()
    """Name and first step (in the smoke run) of each phase, in order; the first starts with the stage."""
    train: tuple[str, ...] | None = None
    """Globs over the names of the parameters that train; None: whatever requires a gradient."""
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    """Weights by loss term that override the task's own."""
    lr_schedule: str = "constant"
    """Name of the smoke run's schedule, see `schedules.named`."""
    learning_rate: float
    """Peak learning rate of the smoke run."""
    warmup_steps: int = 0
    """Steps of linear warmup at the start of the stage."""
    max_steps: int
    """Horizon of the schedule, in optimizer steps from the stage's first."""
    full_learning_rate: float = 0.0
    """Peak learning rate of the full run in this stage."""
    full_warmup_steps: int = 0
    """Warm-up steps of the full run in this stage."""
    full_steps: int = 0
    """Length of the stage in the full run, in optimizer steps."""
    from_scratch: bool = False
    """True if the weights are random at the start of the stage; a later stage starts from trained ones."""
    steps_per_epoch: int | None = None
    """Optimizer steps in one epoch of the smoke run; None if the recipe does not declare it."""
    accept: tuple[str, ...] = ()
    """Criteria over this stage alone; where one fails, the next stage does not start."""
    continue_on_fail: bool = False
    """Start the next stage even if a criterion fails."""

    @property
    def end(self) -> int:
        """The step after its last."""
        return self.first_step + self.steps

    @property
    def expected_jumps(self) -> list[int]:
        """Steps inside the stage at which another phase starts, so that the loss may jump by design."""
        return [first for _, first in self.phases[1:]]

    @property
    def key(self) -> str:
        """The dotted recipe key of the stage, `stages[0]`; empty if the recipe declares no stages."""
        return f"stages[{self.number}]" if self.name else ""

    def phase_at(self, step: int) -> str:
        """Return the phase that `step` is in; empty if the stage has no phases."""
        return next((name for name, first in reversed(self.phases) if first <= step), "")

    def starts_at(self, step: int) -> bool:
        """Tell whether the stage or one of its phases starts at `step`."""
        return step == self.first_step or any(step == first for _, first in self.phases)

    def finding_id(self, check: str) -> str:
        """Return the id of the stage's finding of a check: `loss-trend`, or `loss-trend[A]` if the stage has a name."""
        return f"{check}[{self.name}]" if self.name else check


def place_stages(
    stages: Sequence[StageSpec], steps_per_epoch: int | None, *, at_most: int | None = None
) -> Iterator[tuple[StageSpec, int, int, tuple[tuple[str, int], ...]]]:
    """Lay declared stages out one after the other: yield each with its first step, its steps and its phases.

    `at_most` shortens every longer stage to that many steps and divides them among its phases, as a wiring run does.
    """
    first = 0
    for stage in stages:
        planned = smoke_steps(stage, steps_per_epoch)
        steps = planned if at_most is None else min(planned, at_most)
        if steps == planned:
            offsets = list(accumulate(phase_lengths(stage, steps_per_epoch), initial=0))
        else:
            offsets = [steps * number // len(stage.phases) for number in range(len(stage.phases))]
        phases = tuple((phase.name, first + offset) for phase, offset in zip(stage.phases, offsets, strict=False))
        yield stage, first, steps, phases
        first += steps


def stages_of(
    recipe: Recipe, smoke: Settings, declared: Mapping[str, Any], *, run_steps: int, at_most: int | None = None
) -> tuple[Stage, ...]:
    """Return the stages of a smoke run in order; one without a name if the recipe declares none.

    `smoke`: the resolved settings of the smoke run; `declared`: those that its section names itself. A setting of the
    smoke that merely repeats the full run's gives way to the stage's own.
    """
    full, per_epoch = recipe.full, recipe.smoke.steps_per_epoch
    if not recipe.stages:
        whole = Stage(
            steps=run_steps,
            loss_weights=dict(smoke.loss_weights),
            lr_schedule=smoke.lr_schedule,
            learning_rate=smoke.learning_rate,
            warmup_steps=smoke.warmup_steps,
            max_steps=smoke.max_steps,
            full_learning_rate=full.learning_rate,
            full_warmup_steps=full.warmup_steps,
            full_steps=full.max_steps,
            from_scratch=full.from_scratch,
            steps_per_epoch=per_epoch,
        )
        return (whole,)
    found = []
    for number, (spec, first, steps, phases) in enumerate(place_stages(recipe.stages, per_epoch, at_most=at_most)):
        own = {key: value for key in ("learning_rate", "warmup_steps") if (value := getattr(spec, key)) is not None}
        full_run = {key: own.get(key, getattr(full, key)) for key in ("learning_rate", "warmup_steps")}
        smoke_run = {
            key: declared[key]
            if key in declared and not (key in own and declared[key] == getattr(full, key))
            else full_run[key]
            for key in full_run
        }
        weights = {
            term: weight
            for term, weight in recipe.smoke.loss_weights.items()
            if term not in spec.loss_weights or weight != full.loss_weights.get(term)
        }
        found.append(
            Stage(
                name=spec.name,
                number=number,
                first_step=first,
                steps=steps,
                phases=phases,
                train=None if spec.train is None else tuple(spec.train),
                loss_weights={**full.loss_weights, **spec.loss_weights, **weights},
                lr_schedule=smoke.lr_schedule,
                learning_rate=smoke_run["learning_rate"],
                warmup_steps=smoke_run["warmup_steps"],
                max_steps=smoke_steps(spec, per_epoch),
                full_learning_rate=full_run["learning_rate"],
                full_warmup_steps=full_run["warmup_steps"],
                full_steps=full_steps(spec),
                from_scratch=full.from_scratch and first == 0,
                steps_per_epoch=epoch_steps(spec, per_epoch),
                accept=tuple(spec.accept),
                continue_on_fail=spec.continue_on_fail,
            )
        )
    return tuple(found)
