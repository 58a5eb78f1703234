"""The recipe as frozen, typed values; `load.py` is the only way one is made from a file."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from pytest_smoke.recipe.fields import Count, CriterionText, Finite, Frozen, Positive, Share, Steps, form_by_kind
from pytest_smoke.recipe.metric import Metric
from pytest_smoke.recipe.resume import Resume
from pytest_smoke.recipe.stages import Stage, with_lengths

Mode = Literal["constant", "long-tail", "wiring"]
Precision = Literal["fp32", "bf16", "fp16"]
LrSchedule = Literal["constant", "cosine", "linear", "polynomial", "inverse-sqrt", "wsd", "one-cycle", "other"]
Change = Literal[
    "new-recipe",
    "new-loss",
    "new-normalization",
    "new-tokenizer",
    "new-class-weights",
    "new-learning-rate",
    "tweak",
    "tweak-cosine-matters",
    "integration",
    "reproduce-divergence",
]


def _ordered(bounds: list[float]) -> list[float]:
    low, high = bounds
    if low > high:
        raise ValueError(f"the low bound {low:g} is above the high bound {high:g}; write [low, high]")
    return bounds


_Many = Annotated[list[Mode], Field(min_length=1)]
Modes = Annotated[Mode | _Many, form_by_kind(list, _Many, Mode)]
Bounds = Annotated[list[Positive], Field(min_length=2, max_length=2), AfterValidator(_ordered)]


class Settings(Frozen):
    """Every setting of a run that shapes its dynamics. The full run's are the truth that a smoke must copy."""

    batch_size: Count
    """Micro-batch per device, in samples."""
    grad_accum_steps: Count = 1
    """Micro-batches accumulated into one optimizer step, per device."""
    world_size: Count = 1
    """Data-parallel devices. A smoke folds them onto its one device as further micro-batches."""
    learning_rate: Positive
    """Peak learning rate."""
    lr_schedule: LrSchedule = "cosine"
    """What the learning rate does after its warm-up; a smoke's is set by its mode."""
    warmup_steps: Steps = 0
    """Steps of linear warm-up from 0: step 0 has multiplier 0, step `warmup_steps` has 1."""
    max_steps: Count
    """Length of the run, and horizon of its schedule, in optimizer steps; may be left out where `stages` say it."""
    precision: Precision = "fp32"
    """Autocast type; weights stay fp32. `fp16` adds a loss scaler."""
    grad_clip_norm: Positive | None = None
    """Largest global gradient norm (2-norm); absent or null: no clipping."""
    loss_weights: dict[str, Finite] = {}
    """Weight by loss term; a term not named here has the task's own weight, or 1."""
    from_scratch: bool = False
    """True if weights start random, so that a loss which never leaves its first level is no evidence of anything."""

    @property
    def effective_batch(self) -> int:
        """Samples in one optimizer step."""
        return self.batch_size * self.grad_accum_steps * self.world_size


INHERITED_NOT_NULL = (
    "batch_size",
    "grad_accum_steps",
    "world_size",
    "learning_rate",
    "lr_schedule",
    "warmup_steps",
    "precision",
    "from_scratch",
)
"""Settings a smoke inherits by leaving them out; of the full run's only `grad_clip_norm` may be null."""


class Pipeline(Frozen):
    """What the pipeline may cost: train, evaluate, export, quantize, package, load."""

    quantize: Literal["int8"] | None = "int8"
    """Weights of the quantized model; null: none is made."""
    tolerance: Share = 1e-4
    """Largest difference between the model's outputs and its exported self's, as a share of the largest output."""
    max_drop: dict[str, Positive] = {}
    """`metric: amount`: how much lower, in its own units, a metric of `evaluate` may be once the model is quantized."""
    max_rise: dict[str, Positive] = {}
    """`metric: amount`: how much higher; for metrics that are better when they are low."""

    @model_validator(mode="after")
    def _something_to_bound(self) -> Self:
        if self.quantize is None and (self.max_drop or self.max_rise):
            raise ValueError("max_drop and max_rise bound what quantizing costs, and quantize is null")
        return self


PipelineOrNot = Annotated[bool | Pipeline, form_by_kind(bool, bool, Pipeline)]


class Smoke(Frozen):
    """The run that stands in for the full one. What is not named here is the full run's."""

    change: Change | None = None
    """What is new since the last stable recipe; it picks the mode where `mode` is absent."""
    mode: Modes | None = None
    """Mode, or modes (one item each); the option `--smoke-mode` overrides it."""
    max_steps: Count
    """Horizon of the smoke's schedule, in optimizer steps, and its length unless `run_steps` is less; see `stages`."""
    run_steps: Count | None = None
    """Optimizer steps really run of the schedule's `max_steps`; absent: all."""
    seed: Steps = 0
    """Seed of weights, data order and dropout."""
    cpu_threads: Count = 1
    """Intra-op threads of the run; fixed here, so that a verdict does not depend on the machine's cores."""
    evaluate_every_steps: Count | None = None
    """Optimizer steps between two calls of the task's `evaluate`; absent: only after the last step."""
    edges: list[Count] = []
    """Steps at which data or loss change by design (an epoch of unshuffled data, say): no rise is seen across one."""
    steps_per_epoch: Count | None = None
    """Optimizer steps in one epoch, for criteria that say `by epoch N`."""
    pipeline: PipelineOrNot = False
    """After training: evaluate, export, quantize, package, and load the package anew; true, or what it may cost."""
    args: dict[str, Any] = {}
    """Arguments of the task that the smoke repeats; one that differs from the full run's is refused by `rehearsal`."""

    batch_size: Count | None = None
    """As the full run's, in samples; may differ if the effective batch does not."""
    grad_accum_steps: Count | None = None
    """As the full run's; may differ if the effective batch does not."""
    world_size: Count | None = None
    """As the full run's; may differ if the effective batch does not."""
    learning_rate: Positive | None = None
    """As the full run's."""
    lr_schedule: LrSchedule | None = None
    """Set by the mode; naming another is refused by `schedule`."""
    warmup_steps: Steps | None = None
    """As the full run's."""
    precision: Precision | None = None
    """As the full run's."""
    grad_clip_norm: Positive | None = None
    """As the full run's; null here where the full run clips is a difference."""
    loss_weights: dict[str, Finite] = {}
    """As the full run's."""
    from_scratch: bool | None = None
    """As the full run's."""

    @field_validator("run_steps")
    @classmethod
    def _within_the_horizon(cls, run_steps: int | None, info: ValidationInfo) -> int | None:
        max_steps = info.data.get("max_steps")
        if run_steps is not None and max_steps is not None and run_steps > max_steps:
            raise ValueError(f"{run_steps} is more than the smoke's max_steps, {max_steps}; at most that")
        return run_steps

    @field_validator(*INHERITED_NOT_NULL, mode="before")
    @classmethod
    def _not_null(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("empty (null) is no setting; leave the key out to inherit the full run's")
        return value


class Checks(Frozen):
    """What must hold beyond a stable loss."""

    grad_ratio: dict[
        Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]+$")],
        Bounds,
    ] = {}
    """`term/term: [low, high]`: bounds (inclusive) of the median ratio of the two terms' raw gradient norms."""
    accept: list[CriterionText] = []
    """Criteria over metrics, each of which must hold for a promotion."""
    full_accept: list[CriterionText] = []
    """Criteria that the full run must meet; kept in the outcome and shown, never judged on the smoke."""
    baseline: Annotated[str, Field(min_length=1)] | None = None
    """An earlier smoke's `verdicts.json`, or the report folder it lies in, from the rootdir: what `baseline.NAME` in a
    criterion reads."""
    baseline_id: Annotated[str, Field(min_length=1)] | None = None
    """Id of the outcome in `baseline`; absent: this smoke's own id, or the only outcome there is."""
    resume: Resume = False
    """Whether a run that goes on from a checkpoint in a fresh process must make the same steps; or where it is cut."""


class Source(Frozen):
    """One source of the data mix."""

    rows: Count | None = None
    """Rows the source has; left out where the mix names its `corpus`, whose rows are counted."""
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """How often one of its rows is drawn, relative to the other sources' rows."""
    share: Share | None = None
    """Intended share of the sampled mix; absent: none is intended, only dominance is checked."""


class Mix(Frozen):
    """The data mix the recipe samples: share of a source = rows x weight over the sum of rows x weight."""

    sources: Annotated[dict[str, Source], Field(min_length=1)]
    """The sources by name."""
    corpus: Annotated[str, Field(min_length=1)] | None = None
    """Folder, data file or manifest whose rows are counted before a run, from the recipe's own folder."""
    dominant_share: Share = 0.4
    """A source with a larger sampled share dominates; where even equal shares are larger, it must also lead."""
    lead_ratio: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.5
    """The largest source may not have more than this times the share of the next."""
    tolerance: Share = 0.02
    """Largest difference between a source's intended and sampled share."""

    @field_validator("sources")
    @classmethod
    def _something_to_sample(cls, sources: dict[str, Source]) -> dict[str, Source]:
        if not any(source.weight for source in sources.values()):
            raise ValueError("every source has weight 0; at least one must be sampled")
        intended = sum(source.share or 0.0 for source in sources.values())
        if intended > 1.0 + 1e-6:
            raise ValueError(f"the sources' intended shares sum to {intended:g}; at most 1")
        return sources


class Requires(Frozen):
    """What the machine must have; where it has not, the smoke is skipped with a reason."""

    device: Literal["any", "cpu", "cuda", "mps"] = "any"
    """Kind of device the smoke must run on."""
    memory_gib: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Memory the accelerator must have, in GiB."""


class Recipe(Frozen):
    """One `*.smoke.yaml`: the task, the full run, the smoke that stands in for it, and what must hold."""

    task: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]
    """Import path `package.module:Name` of the task, resolved from pytest's rootdir."""
    args: dict[str, Any] = {}
    """Keyword arguments the task is called with; part of the full run's settings."""
    full: Settings
    """The full run."""
    smoke: Smoke
    """The smoke."""
    stages: list[Stage] = []
    """Stages of the run, one after the other; absent: one stage without a name."""
    checks: Checks = Checks()
    """What must hold beyond a stable loss."""
    metrics: dict[str, Metric] = {}
    """What the readings may know of a metric that `evaluate` returns, by its name."""
    mix: Mix | None = None
    """The data mix, audited before anything runs."""
    ablate: dict[Annotated[str, Field(pattern=r"^[\w.+-]+$")], Annotated[dict[str, Any], Field(min_length=1)]] = {}
    """Ablation cells beside the baseline: `name: {dotted.key: value}`, one key of `args` or `full`, or `smoke.seed`."""
    requires: Requires = Requires()
    """What the machine must have."""

    @model_validator(mode="before")
    @classmethod
    def _lengths(cls, data: Any) -> Any:
        return with_lengths(data)
