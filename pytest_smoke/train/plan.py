"""What a training process runs, in plain data. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pytest_smoke.allowed import PROJECT_ONLY, AllowedCode
from pytest_smoke.mix.audit import PlainMix
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Precision, Trainer
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.checkpoints.layout import NO_CHECKPOINTS, CheckpointPlan

MIX_TOLERANCE = PlainMix(sources={}).tolerance
"""Tolerance of a mix that the recipe does not describe."""
PROBES = 40
"""Times per stage that the probe batch is scored and a copy of the weights is kept in memory."""
GRADIENT_PROBES_MAX = 20
"""Gradient probes per stage, at most."""
GRADIENT_PROBES_MIN = 5
"""Gradient probes per stage, at least, if the stage has that many steps: a median needs a few values."""
GRADIENT_PROBE_SHARE = 0.02
"""Share of a stage's time that gradient probes may take."""
BACKWARD_COST = 0.6
"""Cost of one further backward pass, in steps: a backward pass is about 60 % of a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelinePlan:
    """The export pipeline that follows training."""

    folder: str
    """Folder for the package; it does not exist yet, and its parent does."""
    recipe: dict[str, Any]
    """The resolved recipe with its mode and cell, written to the package."""
    quantize: bool
    """Whether a model with int8 weights is exported, too."""
    tolerance: float
    """Largest difference of an output, divided by its largest absolute value."""

    @property
    def partial(self) -> Path:
        """Folder that the package is written to before it is renamed to `folder`."""
        return Path(self.folder).with_name(f".{Path(self.folder).name}.partial")

    @classmethod
    def of(cls, case: Case, folder: str) -> Self | None:
        """Return the pipeline of `case`; None if the recipe has none."""
        asked = case.pipeline
        if asked is None:
            return None
        recipe = {"mode": case.mode, "cell": case.cell, "recipe": case.recipe.model_dump(mode="json")}
        return cls(folder=folder, recipe=recipe, quantize=asked.quantize is not None, tolerance=asked.tolerance)


def probe_every_steps(stage: Stage) -> int:
    """Return the number of steps between two scores of the probe batch in `stage`."""
    return max(1, stage.steps // PROBES)


def gradient_probe_every_steps(stage: Stage, terms: int) -> int:
    """Return the number of steps between two gradient probes of `terms` loss terms: they take about 2 % of `stage`."""
    affordable = int(GRADIENT_PROBE_SHARE * stage.steps / (BACKWARD_COST * max(1, terms - 1)))
    return max(1, stage.steps // min(GRADIENT_PROBES_MAX, max(GRADIENT_PROBES_MIN, affordable)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """One smoke run."""

    task: str
    """Import path `package.module:Name` of the task or factory."""
    args: dict[str, Any]
    """Keyword arguments of the task."""
    root: str
    """Folder that import paths are resolved from."""
    allowed: AllowedCode = PROJECT_ONLY
    """The code that may be named besides that of `root`."""
    batch_size: int
    """Samples in a micro-batch."""
    micro_batches: int
    """Micro-batches in one optimizer step, per rank."""
    world_size: int
    """Data-parallel ranks. Each of the run's processes draws the micro-batches of `world_size / processes` of them."""
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
    trainer: Trainer = "task"
    """What trains: the recipe key that names it."""
    evaluates: bool = False
    """Whether a trainer's own evaluation is asked for: at an interval, or by a criterion on a metric."""
    full_batch_size: int | None = None
    """Samples in a micro-batch of the full run; None: the same number."""
    mix_tolerance: float = MIX_TOLERANCE
    """Largest difference of a source's sampled share from the expected one; it decides how many samples are counted."""
    overfit: bool = False
    """Whether one batch is trained on over and over again at the end."""
    predictions: str | None = None
    """File for the task's predictions after the last step; None: they are not asked for."""
    pipeline: PipelinePlan | None = None
    """The export pipeline; None: there is none."""
    checkpoints: CheckpointPlan = NO_CHECKPOINTS
    """What goes to disk."""
    launched: bool = False
    """Whether the run has processes of its own that the training process starts; perhaps only one."""
    processes: int = 1
    """Processes of the run."""
    process: int = 0
    """Number of this one, from 0."""

    @classmethod
    def of(cls, case: Case, *, root: str, device: str, checkpoints: CheckpointPlan = NO_CHECKPOINTS) -> Self:
        """Return the plan of `case` on `device`."""
        settings, smoke = case.settings, case.recipe.smoke
        return cls(
            task=case.recipe.import_path or "",
            trainer=case.recipe.trainer,
            args={**case.recipe.args, **smoke.args},
            root=root,
            allowed=case.allowed,
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
            evaluates=smoke.evaluate_every_steps is not None or bool(case.named_metrics),
            overfit=case.mode == "wiring",
            checkpoints=checkpoints,
            launched=case.recipe.launch is not None,
            processes=case.recipe.processes,
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
    def ranks(self) -> range:
        """The data-parallel ranks whose micro-batches this process draws."""
        return range(self.process, self.world_size, self.processes)

    @property
    def accumulates(self) -> bool:
        """Whether a step has several micro-batches, on one device or on several."""
        return self.micro_batches * self.world_size > 1

    @property
    def has_other_batch_size(self) -> bool:
        """Whether micro-batches have another size than in the full run."""
        return self.full_batch_size not in (None, self.batch_size)
