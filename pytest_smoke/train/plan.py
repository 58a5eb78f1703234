"""What a child is told to run, in plain data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pytest_smoke.mix.audit import PlainMix
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Precision
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.checkpoints.layout import NOTHING, Saving

MIX_TOLERANCE = PlainMix(sources={}).tolerance
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


def probe_every_steps(stage: Stage) -> int:
    """Return the number of steps between two scores of the fixed probe batch in `stage`."""
    return max(1, stage.steps // PROBES)


def ratio_every_steps(stage: Stage, terms: int) -> int:
    """Return the number of steps between two gradient probes of `terms` loss terms: they cost about 2 % of `stage`."""
    affordable = int(RATIO_SHARE * stage.steps / (RATIO_COST * max(1, terms - 1)))
    return max(1, stage.steps // min(RATIO_PROBES, max(RATIO_PROBES_MIN, affordable)))


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
    stages: tuple[Stage, ...]
    """The stages in order; one without a name if the recipe declares none."""
    precision: Precision
    """`fp32`, or the autocast type."""
    grad_clip_norm: float | None
    """Largest global gradient norm; None: no clipping."""
    loss_weights: dict[str, float]
    """Weights by loss term that the full run sets in every stage; a stage's own include them."""
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
            stages=case.stages,
            precision=settings.precision,
            grad_clip_norm=settings.grad_clip_norm,
            loss_weights=settings.loss_weights,
            seed=smoke.seed,
            device=device,
            cpu_threads=smoke.cpu_threads,
            evaluate_every_steps=smoke.evaluate_every_steps,
            full_batch_size=case.full.batch_size,
            mix_tolerance=case.recipe.mix.tolerance if case.recipe.mix else MIX_TOLERANCE,
            saving=saving,
        )

    @property
    def run_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.stages[-1].end

    @property
    def has_named_stages(self) -> bool:
        """Whether the recipe declares stages."""
        return bool(self.stages[0].name)

    @property
    def folds_otherwise(self) -> bool:
        """Whether its micro-batches are of another size than the full run's."""
        return self.full_batch_size not in (None, self.batch_size)
