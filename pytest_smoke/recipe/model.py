"""The recipe as frozen, typed models.

The docstring under each field is its description in the JSON Schema, which editors and the reference show to users.
`load.py` makes recipes from files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pytest_smoke.recipe.fields import (
    Count,
    CriterionText,
    Finite,
    Frozen,
    NotNegative,
    Positive,
    Share,
    Steps,
    form_by_kind,
)
from pytest_smoke.recipe.launch import Launch
from pytest_smoke.recipe.resume import Resume
from pytest_smoke.recipe.stages import StageSpec, with_lengths
from pytest_smoke.text import number

Mode = Literal["constant", "long-tail", "wiring"]
Precision = Literal["fp32", "bf16", "fp16"]
Trainer = Literal["task", "hf", "lightning", "command"]
"""What trains: the key of the recipe that names it."""
TRAINERS: tuple[Trainer, ...] = get_args(Trainer)
FACTORIES: tuple[Trainer, ...] = ("task", "hf", "lightning")
"""Those of them that name a class or function to import."""
SELF_DESCRIBING: tuple[Trainer, ...] = ("hf", "lightning")
"""Those of them whose settings of the full run are read from what they name, so that `full` may leave them out."""
STAND_INS: Mapping[str, Any] = {"batch_size": 1, "learning_rate": 1.0, "max_steps": 1}
"""Stand-ins for required settings of a full run that are read from its trainer, until the trainer is built."""
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


class TrainerError(ValueError):
    """A recipe does not say what trains, or says it more than once. `load.py` says where."""


def _bounds_a_ratio(bounds: list[float | None]) -> list[float | None]:
    low, high = bounds
    if low is not None and high is not None and low > high:
        raise ValueError(f"the low bound {number(low)} is above the high bound {number(high)}; write [low, high]")
    if high == 0:
        raise ValueError("a high bound of 0 allows no gradient at all; to train without a term, set its weight to 0")
    if high is None and not low:
        raise ValueError("neither side has a bound; write [low, high], with null on one side at most")
    return bounds


_Many = Annotated[list[Mode], Field(min_length=1)]
Modes = Annotated[Mode | _Many, form_by_kind(list, _Many, Mode)]
Bounds = Annotated[
    list[NotNegative | None],
    Field(min_length=2, max_length=2, json_schema_extra={"contains": {"type": "number", "exclusiveMinimum": 0}}),
    AfterValidator(_bounds_a_ratio),
]
Text = Annotated[str, Field(min_length=1)]


class Settings(Frozen):
    """Settings of the full run. The smoke run must use the same ones, except for its length and schedule."""

    batch_size: Count
    """Samples in one micro-batch on one device."""
    grad_accum_steps: Count = 1
    """Micro-batches that each device accumulates into one optimizer step."""
    world_size: Count = 1
    """Number of data-parallel devices. A smoke run uses one device, or those of `launch`, and accumulates the batches
    of all of them."""
    learning_rate: Positive
    """Peak learning rate, reached at the end of the warmup."""
    lr_schedule: LrSchedule = "cosine"
    """Learning rate schedule after the warmup. The smoke run's schedule is set by its mode."""
    warmup_steps: Steps = 0
    """Optimizer steps of linear warmup. The learning rate is 0 at step 0 and `learning_rate` at step `warmup_steps`."""
    max_steps: Count
    """Length of the run and of its schedule, in optimizer steps. With `stages`, it is the sum of theirs: leave it
    out."""
    precision: Precision = "fp32"
    """Autocast dtype. Weights stay in fp32; `fp16` adds a loss scaler."""
    grad_clip_norm: Positive | None = None
    """Gradient norm (2-norm over all parameters) to which larger gradients are scaled down. Default: no clipping."""
    loss_weights: dict[str, Finite] = {}
    """Weight of each loss term, by name. A term that is not listed keeps the task's own weight, or 1."""
    from_scratch: bool = False
    """Whether the model is trained from scratch. A loss that never improves is then inconclusive."""

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
"""Settings that `smoke` inherits if it leaves them out. Of the inherited settings only `grad_clip_norm` may be null."""


class Pipeline(Frozen):
    """Limits of the export pipeline: evaluate, export, quantize, package, load the package."""

    quantize: Literal["int8"] | None = "int8"
    """Type of the quantized model's weights. Null: the model is not quantized."""
    tolerance: Share = 1e-4
    """Largest difference between the outputs of the model and of its export, as a share of the largest output."""
    max_drop: dict[str, Positive] = {}
    """How far quantization may lower a metric of `evaluate`: `metric: amount`, in the metric's own unit."""
    max_rise: dict[str, Positive] = {}
    """How far quantization may raise a metric that is better when lower: `metric: amount`, in the metric's own unit."""

    @model_validator(mode="after")
    def _quantizes_what_it_limits(self) -> Self:
        if self.quantize is None and (self.max_drop or self.max_rise):
            limits = [key for key in ("max_drop", "max_rise") if getattr(self, key)]
            limit = "limits" if len(limits) == 1 else "limit"
            names = " and ".join(limits)
            raise ValueError(
                f"{names} {limit} the quantized model, but quantize is null; remove {names}, or set quantize to int8"
            )
        return self


PipelineOrNot = Annotated[bool | Pipeline, form_by_kind(bool, bool, Pipeline)]


class Smoke(Frozen):
    """The smoke run. Settings that are left out are the full run's; one that differs fails the check `settings`."""

    change: Change | None = None
    """What is new since the last recipe that trained stably. It selects the mode if `mode` is left out."""
    mode: Modes | None = None
    """Mode, or a list of modes with one test item each. `--smoke-mode` overrides it. Default: selected by `change`, or
    `constant`."""
    max_steps: Count
    """Length of the smoke run and of its schedule, in optimizer steps. With `stages`, it is the sum of theirs: leave it
    out."""
    run_steps: Count | None = None
    """Optimizer steps to run, if the run should end before its schedule. Default and maximum: `max_steps`."""
    seed: Steps = 0
    """Seed of the initial weights, the data order and dropout."""
    cpu_threads: Count = 1
    """CPU threads of the training process. It is fixed, so that the verdict does not depend on the machine's cores."""
    evaluate_every_steps: Count | None = None
    """Optimizer steps between two calls of the task's `evaluate`. Default: only after the last step."""
    expected_jumps: list[Count] = []
    """Optimizer steps at which the data or the loss changes by design, such as the epoch boundaries of unshuffled data.
    The loss before such a step is not compared with the loss after it."""
    steps_per_epoch: Count | None = None
    """Optimizer steps in one epoch, for criteria with `by epoch N` and for lengths in epochs."""
    pipeline: PipelineOrNot = False
    """Whether to evaluate, export, quantize and package the model after training, and to load the package again. Write
    a mapping instead of `true` to set limits."""
    args: dict[str, Any] = {}
    """Arguments of the task, repeated. One that differs from the full run's fails the check `settings`."""

    batch_size: Count | None = None
    """Samples in one micro-batch. Default: the full run's. It may differ if the effective batch does not."""
    grad_accum_steps: Count | None = None
    """Micro-batches in one optimizer step. Default: the full run's. It may differ if the effective batch does not."""
    world_size: Count | None = None
    """Number of data-parallel devices. Default: the full run's. It may differ if the effective batch does not."""
    learning_rate: Positive | None = None
    """Peak learning rate. Default: the full run's."""
    lr_schedule: LrSchedule | None = None
    """Learning rate schedule. Default: the mode's; any other fails the check `schedule`."""
    warmup_steps: Steps | None = None
    """Optimizer steps of linear warmup. Default: the full run's."""
    precision: Precision | None = None
    """Autocast dtype. Default: the full run's."""
    grad_clip_norm: Positive | None = None
    """Gradient norm to which larger gradients are scaled down. Default: the full run's; null means no clipping."""
    loss_weights: dict[str, Finite] = {}
    """Weight of each loss term, by name. Default: the full run's."""
    from_scratch: bool | None = None
    """Whether the model is trained from scratch. Default: the full run's."""

    @field_validator("run_steps")
    @classmethod
    def _at_most_max_steps(cls, run_steps: int | None, info: ValidationInfo) -> int | None:
        max_steps = info.data.get("max_steps")
        if run_steps is not None and max_steps is not None and run_steps > max_steps:
            raise ValueError(f"{run_steps} is more than smoke.max_steps, which is {max_steps}")
        return run_steps

    @field_validator(*INHERITED_NOT_NULL, mode="before")
    @classmethod
    def _not_null(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("empty (null) is not allowed; leave the key out to inherit the full run's value")
        return value


class Checks(Frozen):
    """Requirements beyond a stable loss."""

    grad_ratio: dict[
        Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]+$")],
        Bounds,
    ] = {}
    """Bounds on the balance of loss terms: `term/term: [low, high]`, both inclusive, for the median ratio of the two
    terms' unweighted gradient norms. Null, or a low bound of 0, leaves a side open: `[null, 8]`, `[0.01, null]`."""
    accept: list[CriterionText] = []
    """Criteria on metrics. Each must hold for a promotion."""
    full_accept: list[CriterionText] = []
    """Criteria for the full run. They are reported, but not judged on the smoke run."""
    baseline: Text | None = None
    """`verdicts.json` of an earlier smoke run, or its report folder, relative to pytest's rootdir. Criteria read its
    metrics as `baseline.NAME`."""
    baseline_id: Text | None = None
    """Id of the outcome in `baseline` to compare with. Default: the outcome with this item's id, or the only one."""
    overfit: bool = False
    """Whether a wiring run fails if the loss of one repeated batch does not fall. Default: it only warns."""
    accept_unverified: list[Literal["schedule"]] = []
    """Checks that a promotion needs, and that may go without data. Default: none. `schedule` is such a check for a
    trainer that does not report its learning rate."""
    resume: Resume = False
    """Whether to check that a run resumed from a checkpoint in a new process makes the same steps. Write a mapping
    instead of `true` to choose the step."""


class MetricSpec(Frozen):
    """What is known about a metric that `evaluate` returns. It is used for advice and never fails a smoke run."""

    better: Literal["higher", "lower"] | None = None
    """Which direction is better. Default: `lower` for a name with loss, nll, perplexity, error or similar, else
    `higher`."""
    kind: Literal["teacher-forced", "free-running"] | None = None
    """Whether the model is given the reference prefix (`teacher-forced`) or continues its own output
    (`free-running`)."""
    condition: Text | None = None
    """Condition of the measurement, such as `latent` or `text`. The check `exposure-bias` compares the metrics of
    one condition."""
    against: Text | None = None
    """Metric of another condition to compare with, such as an upper bound or a baseline."""
    items: Annotated[int, Field(ge=1, le=10**12)] | None = None
    """Number of evaluated items, if the metric is a mean of values between 0 and 1. It determines the noise."""
    chance: Annotated[float, Field(ge=-1e50, le=1e50, allow_inf_nan=False)] | None = None
    """Value for a model that has learned nothing."""
    target: Annotated[float, Field(ge=-1e50, le=1e50, allow_inf_nan=False)] | None = None
    """Value that the full run must reach."""

    @field_validator("chance", "target")
    @classmethod
    def _a_proportion(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("items") is not None and not 0 <= value <= 1:
            raise ValueError(
                f"{number(value)} is not between 0 and 1, as a mean over items must be; write a share, or remove items"
            )
        return value


class SourceSpec(Frozen):
    """One source of the data mix."""

    rows: Count | None = None
    """Number of rows. Leave it out if the mix has a `corpus`, whose rows are counted."""
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """How often a row of this source is sampled, relative to a row of the other sources."""
    share: Share | None = None
    """Intended share of the sampled mix. Default: none; only `dominant_share` and `lead_ratio` apply."""


class MixSpec(Frozen):
    """The data mix that the recipe samples. The share of a source is its rows x weight, relative to all sources."""

    sources: Annotated[dict[str, SourceSpec], Field(min_length=1)]
    """Sources by name."""
    corpus: Text | None = None
    """Folder, data file or manifest of the corpus, relative to the recipe. Its rows are counted before the run."""
    dominant_share: Share = 0.4
    """Largest share that one source may have. If there are so few sources that equal shares exceed it (one or two, for
    0.4), a source is dominant only if it also exceeds `lead_ratio`."""
    lead_ratio: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.5
    """Largest allowed ratio between the shares of the largest and the second largest source."""
    tolerance: Share = 0.02
    """Largest allowed difference between the intended and the sampled share of a source."""

    @field_validator("sources")
    @classmethod
    def _samples_something(cls, sources: dict[str, SourceSpec]) -> dict[str, SourceSpec]:
        if not any(source.weight for source in sources.values()):
            raise ValueError("every source has weight 0; at least one must be larger")
        intended = sum(source.share or 0.0 for source in sources.values())
        if intended > 1.0 + 1e-6:
            raise ValueError(f"the intended shares add up to {number(intended)}; at most 1 is possible")
        return sources


class Requires(Frozen):
    """What the machine must have. Otherwise the smoke run is skipped, with the reason."""

    device: Literal["any", "cpu", "cuda", "mps"] = "any"
    """Kind of device that the smoke run needs."""
    memory_gib: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Memory that the accelerator needs, in GiB. With `pytest -n`, smoke runs that need less than half of a GPU's
    memory share it; one that does not say what it needs gets a GPU of its own."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """CUDA devices that the smoke run needs at the same time. 0: none in particular; a run with `launch` needs one per
    process if it runs on CUDA. With `pytest -n` it waits until so many are free, and sees only those."""

    @property
    def kind(self) -> str:
        """Kind of device that the smoke run needs: `any` of them if it does not matter."""
        return "cuda" if self.gpus else self.device

    @model_validator(mode="after")
    def _gpus_are_cuda_devices(self) -> Self:
        if self.gpus and self.device not in ("any", "cuda"):
            raise ValueError(f"device is {self.device}, and gpus: {self.gpus} needs cuda; remove one of them")
        return self


ImportPath = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]


class LogSpec(Frozen):
    """Where the log of a command is, and what its columns mean."""

    path: Text = "stdout"
    """File, relative to `cwd`, or `stdout` for what the command prints. It is read while it grows."""
    loss: Text | None = None
    """Column with the training loss. Default: recognized by its name."""
    lr: Text | None = None
    """Column with the learning rate. Default: recognized by its name."""
    step: Text | None = None
    """Column with the step. Default: recognized by its name."""
    probe_loss: Text | None = None
    """Column with a loss that is always computed on the same samples. A rise of the training loss that it does not
    share is a change of the data. Default: a column of that name."""
    counts: Literal["optimizer-steps", "micro-batches"] = "optimizer-steps"
    """What the steps of the log count."""


def _as_text(value: Any) -> Any:
    """Return a number as text: every part of a command line is one."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Word = Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | int | float)]
LogOrPath = Annotated[Text | LogSpec, form_by_kind(str, Text, LogSpec)]


class Recipe(Frozen):
    """A recipe, `*.smoke.yaml`: what trains, the full run, the smoke run that stands for it, and what must hold."""

    task: ImportPath | None = None
    """Import path of the task, `package.module:Name`, relative to pytest's rootdir."""
    hf: ImportPath | None = None
    """Import path of a function that returns a Hugging Face `Trainer`, `package.module:name`, relative to pytest's
    rootdir."""
    lightning: ImportPath | None = None
    """Import path of a function that returns a `LightningModule`, `(module, data)`, or `(module, data, arguments of the
    Trainer)`, `package.module:name`, relative to pytest's rootdir."""
    command: Annotated[list[Word], Field(min_length=1)] | None = None
    """Program and arguments of a trainer of your own, instead of a task. No shell sees them. `{learning_rate}` and
    other placeholders stand for settings of the smoke run; write `{{` for `{`."""
    log: LogOrPath = "stdout"
    """Log of the command: `stdout` for what it prints, a file relative to `cwd`, or a mapping."""
    env: dict[str, Word] = {}
    """Environment variables of the command, in addition to those of the session."""
    cwd: Text | None = None
    """Folder that the command runs in, relative to pytest's rootdir. Default: the rootdir."""
    spelling: dict[str, dict[str, Word]] = {}
    """How the command spells a value: `setting: {value: text}`, as `lr_schedule: {constant: constant_with_warmup}`. The
    value of a setting that is off is `none`."""
    args: dict[str, Any] = {}
    """Keyword arguments for the task or factory, or values for the command's `{args.NAME}`. They are settings of the
    full run, too."""
    full: Settings
    """Settings of the full run. With `hf` and `lightning`, they are read from the trainer, and those that are repeated
    here must agree."""
    smoke: Smoke
    """Settings of the smoke run. What is left out is the full run's."""
    launch: Launch | None = None
    """Processes that train the smoke run together, with DistributedDataParallel, or with FSDP2 if the task has
    `parallelize`. Default: the training process alone."""
    stages: list[StageSpec] = []
    """Stages of the run, in order. Default: a single stage without a name."""
    checks: Checks = Checks()
    """Requirements beyond a stable loss."""
    metrics: dict[str, MetricSpec] = {}
    """What is known about the metrics that `evaluate` returns, by name."""
    mix: MixSpec | None = None
    """The data mix, checked before anything runs."""
    ablate: dict[Annotated[str, Field(pattern=r"^[\w.+-]+$")], Annotated[dict[str, Any], Field(min_length=1)]] = {}
    """Ablation cells to run as well: `name: {key: value}`, with one dotted key of `args` or `full`, or `smoke.seed`."""
    requires: Requires = Requires()
    """What the machine must have."""
    data_files: list[Text] = []
    """Files and folders with the data that is trained on, relative to pytest's rootdir. A receipt has their checksums,
    which `gate` compares. A task can name them itself, in its attribute `data_files`."""

    _repeated: frozenset[str] = PrivateAttr(default=frozenset())

    @model_validator(mode="before")
    @classmethod
    def _lengths(cls, data: Any) -> Any:
        return with_lengths(data)

    @model_validator(mode="wrap")
    @classmethod
    def _leave_to_trainer(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, Mapping) or all(data.get(key) is None for key in SELF_DESCRIBING):
            return handler(data)
        full = data.get("full")
        declared = full if isinstance(full, Mapping) else {}
        filled = {**STAND_INS, **declared} if isinstance(full, Mapping) or full is None else full
        recipe = handler({**data, "full": filled})
        recipe._repeated = frozenset(map(str, declared))
        return recipe

    @model_validator(mode="after")
    def _one_trainer(self) -> Self:
        named = [key for key in TRAINERS if getattr(self, key) is not None]
        if len(named) != 1:
            raise TrainerError(f"exactly one of {', '.join(TRAINERS)} must say what trains")
        return self

    @property
    def trainer(self) -> Trainer:
        """The key that says what trains."""
        return next(key for key in TRAINERS if getattr(self, key) is not None)

    @property
    def processes(self) -> int:
        """Number of processes that train the smoke run together."""
        return self.launch.nproc_per_node if self.launch is not None else 1

    @property
    def gpus(self) -> int:
        """Number of CUDA devices that the smoke run needs at the same time, if it runs on CUDA."""
        return max(1, self.requires.gpus, self.processes)

    @property
    def repeated(self) -> dict[str, Any]:
        """Settings in `full` that the recipe names although they are read from the trainer."""
        return {key: getattr(self.full, key) for key in sorted(self._repeated)}

    @property
    def import_path(self) -> str | None:
        """Import path of the task or factory, `package.module:Name`; None if nothing is imported."""
        return next((path for key in FACTORIES if (path := getattr(self, key)) is not None), None)
