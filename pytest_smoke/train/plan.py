"""What a child is told to run, in plain data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pytest_smoke.mix.audit import Mix
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Precision
from pytest_smoke.recipe.windows import Window, windows_of
from pytest_smoke.train.checkpoints.layout import NOTHING, Saving

MIX_TOLERANCE = Mix(sources={}).tolerance
"""That of a mix which no recipe describes."""
PROBES = 40
"""Times the fixed probe batch is scored, and a checkpoint taken, in one smoke."""
RATIO_PROBES = 20
"""Steps of a smoke at which the loss terms are differentiated one by one, at most."""
RATIO_PROBES_MIN = 5
"""... and at least, where the smoke has that many steps: a median needs a few."""
RATIO_SHARE = 0.02
"""Share of the smoke that gradient probes may cost."""
RATIO_COST = 0.6
"""Cost of one further backward pass, in steps (a backward is about 60 % of a step)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelinePlan:
    """What follows the training."""

    folder: str
    """Where the package will lie; nothing lies there yet, and its parent exists."""
    recipe: dict[str, Any]
    """The resolved recipe, its mode and cell: what the package says of where it comes from."""
    quantize: bool
    tolerance: float
    """Largest difference between outputs, as a share of the largest output."""

    @property
    def partial(self) -> Path:
        """Where it is written until it is whole, beside its place."""
        return Path(self.folder).with_name(f".{Path(self.folder).name}.partial")

    @classmethod
    def of(cls, case: Case, folder: str) -> Self | None:
        """The pipeline of `case`; None where it asks for none."""
        asked = case.pipeline
        if asked is None:
            return None
        recipe = {"mode": case.mode, "cell": case.cell, "recipe": case.recipe.model_dump(mode="json")}
        return cls(folder=folder, recipe=recipe, quantize=asked.quantize is not None, tolerance=asked.tolerance)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """One stage of a rehearsal, or all of one that has none."""

    name: str | None
    """None for a rehearsal without stages."""
    first_step: int
    """Its first optimizer step in the whole rehearsal."""
    steps: int
    """Optimizer steps to run."""
    max_steps: int
    """Horizon of its schedule, in optimizer steps from its first."""
    learning_rate: float
    """Peak learning rate."""
    warmup_steps: int
    """Steps of linear warm-up at its start."""
    loss_weights: dict[str, float]
    """Weights by term that override the task's own."""
    train: tuple[str, ...] | None = None
    """Globs over the names of the parameters that train; None: as the model says."""
    phases: tuple[tuple[str, int], ...] = ()
    """Name and first step of each phase; the first starts with the stage."""

    @property
    def end(self) -> int:
        """The step after its last."""
        return self.first_step + self.steps

    def phase_at(self, step: int) -> str | None:
        """The phase that `step` lies in; None where there are no phases."""
        return next((name for name, first in reversed(self.phases) if first <= step), None)

    def begins_at(self, step: int) -> bool:
        """Whether the stage or one of its phases begins at `step`."""
        return step == self.first_step or any(step == first for _, first in self.phases)

    @property
    def probe_every_steps(self) -> int:
        """Steps between two scores of the fixed probe batch."""
        return max(1, self.steps // PROBES)

    def ratio_every_steps(self, terms: int) -> int:
        """Steps between two gradient probes of `terms` loss terms, so that they cost about 2 % of the stage."""
        affordable = int(RATIO_SHARE * self.steps / (RATIO_COST * max(1, terms - 1)))
        return max(1, self.steps // min(RATIO_PROBES, max(RATIO_PROBES_MIN, affordable)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """One rehearsal."""

    task: str
    """Import path `package.module:Name`."""
    args: dict[str, Any]
    """Keyword arguments of the task."""
    root: str
    """Folder that import paths are resolved from."""
    batch_size: int
    """Samples in a micro-batch."""
    micro_batches: int
    """Micro-batches in one optimizer step, per rank."""
    world_size: int
    """Ranks whose micro-batches are folded onto the one device."""
    learning_rate: float
    """Peak learning rate."""
    lr_schedule: str
    """Name of the schedule, see `schedules.named`."""
    warmup_steps: int
    """Steps of linear warm-up."""
    max_steps: int
    """Horizon of the schedule, in optimizer steps."""
    run_steps: int
    """Optimizer steps to run."""
    precision: Precision
    """`fp32`, or the autocast type."""
    grad_clip_norm: float | None
    """Largest global gradient norm; None: no clipping."""
    loss_weights: dict[str, float]
    """Weights by term that override the task's own."""
    seed: int
    """Seed of weights, data order and dropout."""
    device: str
    """`auto`, `cpu`, `mps`, `cuda` or `cuda:N`."""
    cpu_threads: int
    """Intra-op threads."""
    evaluate_every_steps: int | None
    """Steps between evaluations; None: only after the last step."""
    full_batch_size: int | None = None
    """Samples in a micro-batch of the full run; None: as in this one."""
    mix_tolerance: float = MIX_TOLERANCE
    """Largest difference of a source's drawn share from the expected one; how many steps are counted rests on it."""
    predictions: str | None = None
    """File that the task's predictions are written to after the last step; None: they are not asked for."""
    pipeline: PipelinePlan | None = None
    """What follows the training; None: nothing."""
    stages: tuple[StagePlan, ...] = ()
    """The stages, in order; empty where the recipe declares none. The settings above are then their defaults."""
    saving: Saving = NOTHING
    """What goes to disk."""

    @classmethod
    def of(cls, case: Case, *, root: str, device: str, saving: Saving = NOTHING) -> Self:
        """The plan of `case` on `device`."""
        settings, smoke = case.settings, case.recipe.smoke
        return cls(
            task=case.recipe.task,
            args={**case.recipe.args, **smoke.args},
            root=root,
            batch_size=settings.batch_size,
            micro_batches=settings.grad_accum_steps,
            world_size=settings.world_size,
            learning_rate=settings.learning_rate,
            lr_schedule=settings.lr_schedule,
            warmup_steps=settings.warmup_steps,
            max_steps=settings.max_steps,
            run_steps=case.run_steps,
            precision=settings.precision,
            grad_clip_norm=settings.grad_clip_norm,
            loss_weights=settings.loss_weights,
            seed=smoke.seed,
            device=device,
            cpu_threads=smoke.cpu_threads,
            evaluate_every_steps=smoke.evaluate_every_steps,
            full_batch_size=case.full.batch_size,
            mix_tolerance=case.recipe.mix.tolerance if case.recipe.mix else MIX_TOLERANCE,
            stages=tuple(_stage(window) for window in windows_of(case) if window.span),
            saving=saving,
        )

    @property
    def folds_otherwise(self) -> bool:
        """Whether its micro-batches are of another size than the full run's."""
        return self.full_batch_size not in (None, self.batch_size)

    @property
    def windows(self) -> tuple[StagePlan, ...]:
        """The stages, or the whole rehearsal as one without a name."""
        whole = StagePlan(
            name=None,
            first_step=0,
            steps=self.run_steps,
            max_steps=self.max_steps,
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup_steps,
            loss_weights=self.loss_weights,
        )
        return self.stages or (whole,)


def _stage(window: Window) -> StagePlan:
    assert window.span is not None
    settings, stage = window.case.settings, window.span.stage
    return StagePlan(
        name=stage.name,
        first_step=window.first_step,
        steps=window.steps,
        max_steps=settings.max_steps,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        loss_weights=settings.loss_weights,
        train=None if stage.train is None else tuple(stage.train),
        phases=window.span.phases,
    )
