"""What a training process reports (events) and what it is told (commands). Plain values: they cross a pipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan
from typing import Any

SERIES = ("loss", "grad_norm", "lr", "probe_loss")
"""Series of every run, which a criterion may name. A metric must not have their names."""


@dataclass(frozen=True, slots=True)
class Started:
    """The task is built, and the first optimizer step is next."""

    device: str
    """Device as torch names it."""
    device_name: str
    """Name of the hardware."""
    torch: str
    """Version of torch."""
    parameters: int
    """Number of parameters of the model."""
    trainable: int
    """Those of them that require a gradient."""


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """The files below the rootdir from which the modules of the training process were imported, and its libraries."""

    checksums: dict[str, str]
    """SHA-256 by absolute path."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of the libraries that are imported, of CUDA, cuDNN and the driver, by name."""


@dataclass(frozen=True, slots=True)
class DataFiles:
    """The data that the task names in `data_files`, before the first step."""

    digests: dict[str, dict[str, Any]]
    """`DataDigest.to_dict()` by the path that the task named."""


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step."""

    step: int
    """Number of the step, from 0; of a log, as it numbers them."""
    loss: float
    """Weighted sum of the loss terms, mean over the effective batch, before the update."""
    terms: dict[str, float]
    """Mean of each loss term over the effective batch, without its weight."""
    grad_norm: float | None
    """2-norm of the whole gradient before clipping; None if it is not known."""
    lr: float | None
    """Learning rate that the optimizer used in a parameter group with the recipe's peak rate; None if it is not
    known."""
    stage: str = ""
    """Empty if the recipe declares no stages."""
    phase: str = ""
    """Empty if the stage has no phases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSpacing:
    """At which steps a log has points. Steps that were reported before it do not count: the log was read again."""

    first_step: int
    """Number of the first step, 0 or 1, in the log."""
    every_steps: int
    """Optimizer steps from point to point."""
    planned_points: int
    """Points in the log of the whole run, at least 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What the training process does now. It is shown while the run trains; nothing is judged by it, and nothing kept.

    Sent before what may take long, and on an accelerator about 40 times per stage.
    """

    doing: str = ""
    """A phrase such as `evaluating`; empty while it trains."""
    memory_gib: float | None = None
    """Memory that torch has reserved on the accelerator, in GiB; None if it is not known."""
    device_memory_gib: float | None = None
    """Memory of that device; None if it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotChecked:
    """Checks that what trains gives no data for. It can be reported at any time; reasons add up."""

    reasons: dict[str, str]
    """Why, as a clause, by id of the check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRateDiffers:
    """The optimizer used another learning rate than the scheduled one; reported once per stage."""

    step: int
    """First optimizer step with the difference."""
    stage: str = ""
    """Empty if the recipe declares no stages."""
    group: int
    """Index of the parameter group."""
    scheduled: float
    """Its learning rate by the recipe's schedule."""
    used: float
    """Its learning rate when the optimizer stepped."""
    groups: int
    """Parameter groups in the optimizer."""
    planned_groups: int
    """Parameter groups when the optimizer was made."""
    within_step: bool = False
    """Whether `optimizer.step` or a hook of it changed the learning rate."""
    rank: int | None = None
    """The process with the difference, if the run has several and not all of them have it."""


@dataclass(frozen=True, slots=True)
class ProbeLoss:
    """Loss on the probe batch, in evaluation mode, before step `step`."""

    step: int
    """Optimizer step before which it was computed."""
    loss: float
    """Weighted sum of the loss terms on the probe batch."""


@dataclass(frozen=True, slots=True)
class ParameterNorm:
    """2-norm of all parameters after step `step`; not finite if the update broke one of them."""

    step: int
    """Optimizer step after which it was computed."""
    norm: float
    """2-norm over all parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What happened to the parameters from step `first_step` to before step `end_step`, about 40 times per stage."""

    first_step: int
    """First optimizer step."""
    end_step: int
    """Step after the last one."""
    moved: int
    """Trainable parameters that changed, in any bit."""
    trainable: int
    """Parameters that require a gradient and were compared."""
    held: int
    """Parameters that require a gradient and are held by the optimizer."""
    stepped: int
    """Steps in which `optimizer.step` ran. A loss scaler skips it on an overflow."""
    without_grad: int = 0
    """Steps after whose losses gradients were disabled: `torch.is_grad_enabled()` was False."""
    replaced: tuple[str, ...] = ()
    """Trainable parameters that the optimizer held at the start or that are new, and that it does not hold now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossDiagnosis:
    """Where the first loss that is not finite comes from, or a loss of exactly 0: found by rerunning its batch."""

    step: int
    """Optimizer step of the loss."""
    stage: str = ""
    """Empty if the recipe declares no stages."""
    weights_step: int
    """The weights of the rerun are those before this step."""
    micro_batch: int = 0
    """Index of the first micro-batch in the step that shows it."""
    micro_batches: int
    """Micro-batches in the step, or in the probe batch."""
    is_probe: bool = False
    """Whether it is the loss on the probe batch."""
    kind: str
    """`parameter`, `input`, `labels`, `module`, `operation` (outside modules), `gradient` or `not-reproduced`."""
    term: str = ""
    """Loss term that is not finite."""
    name: str = ""
    """Name of the parameter, of the part of the batch, or name and type of the module."""
    operation: str = ""
    """Function of torch that made the first value that is not finite; empty if it is not known."""
    place: str = ""
    """`file:line` of that call in the user's code."""
    detail: str = ""
    """What is wrong with labels or inputs, as a clause."""
    finite_in_fp32: bool | None = None
    """Whether the loss is finite in fp32; None if it was computed in fp32, or it could not be told."""
    rank: int | None = None
    """The only process of the run whose part of the loss is not finite; None if there are others, or only one runs."""


@dataclass(frozen=True, slots=True)
class Gradients:
    """A gradient probe: the gradient of each loss term over one effective batch, before the update of step `step`."""

    step: int
    """Optimizer step of the probe."""
    raw: dict[str, float]
    """2-norm by term."""
    weighted: dict[str, float]
    """2-norm by term, times the absolute weight of the term."""
    cosines: dict[str, float]
    """Cosine by `term/term` pair; NaN if one of the gradients is zero."""
    postmortem: bool = False
    """Whether it was made on the last good weights after the run was stopped."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """What the task's `evaluate` returned before step `step`.

    After the last step of a run `step` is the number of steps; after the last step of a stage it is that step.
    """

    step: int
    """Optimizer step before which they were computed."""
    values: dict[str, float]
    """Value by metric."""
    is_evaluation: bool = True
    """Whether they measure the model. Other columns of a command's log, such as a time, are only read by criteria."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialMetrics:
    """What the task's `evaluate` returned before the first step. Criteria and advisories do not use these values."""

    values: dict[str, float]
    """Value by metric; empty if the task has no `evaluate`."""
    terms: tuple[str, ...]
    """Names of the loss terms at the first step."""
    evaluates: bool = True
    """Whether the task has an `evaluate`."""
    step: int = 0
    """The first step; so that a resumed run reports them again."""


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """What the sampler drew from the first step to step `step`, as the task's `sources` counts it."""

    step: int
    """Last optimizer step that is counted."""
    samples: int
    """Samples in all sources together."""
    counts: dict[str, int]
    """Samples by source."""
    design_effect: float
    """Variance of a source's share, divided by its variance with as many independent samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LargestBatch:
    """A forward and a backward pass on the task's `largest_batch`, before the first step."""

    step: int = 0
    """The first step."""
    peak_memory_gib: float | None = None
    """Peak memory on the accelerator, in GiB; None on a CPU."""
    reason: str = ""
    """Why it failed, as in `Crashed`; empty if it did not."""
    text: str = ""
    """Type and message of the exception."""
    place: str = ""
    """`file:line` of the innermost frame outside the libraries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overfit:
    """Some updates on one repeated micro-batch, at the end of a wiring run."""

    step: int
    """Optimizer steps made before."""
    updates: int
    """Updates on the batch."""
    before: float = nan
    """Loss of the batch before them, in evaluation mode."""
    after: float = nan
    """Loss of the batch after them, in evaluation mode and with the same random numbers."""
    problem: str = ""
    """Why there are no losses; empty if there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMode:
    """In which mode the modules trained that compute something else in evaluation mode, such as dropout."""

    step: int
    """Optimizer step in which it was seen."""
    stage: str
    """Empty if the recipe declares no stages."""
    watched: int
    """Modules that depend on the mode and were in training mode when the stage or phase started."""
    eval_count: int
    """Those of them that trained in evaluation mode, apart from modules that are frozen on purpose."""
    in_eval: tuple[str, ...]
    """Names of the first of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedStorage:
    """Different parameters of the model that overlap in memory, as it is returned by `model`."""

    pairs: tuple[str, ...]
    """The first of them, as `name and name`."""
    count: int
    """Number of pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusedParameters:
    """Parameters of which a process of the run has no gradient in a step, so that DistributedDataParallel waits."""

    rank: int
    """The process."""
    names: tuple[str, ...]
    """The first of them."""
    count: int
    """Number of such parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSharded:
    """The task's `parallelize` sharded no parameter, so that the model trains with DistributedDataParallel."""

    parameters: int
    """Parameters of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSizes:
    """How many samples a stage drew per step: reported early if the number differs, and else at its end."""

    step: int
    """Last optimizer step that is counted."""
    stage: str = ""
    """Empty if the recipe declares no stages."""
    first_step: int
    """First of the steps in a row with another number than the declared one; the stage's first if there are none."""
    declared: int
    """Samples per step that the recipe declares."""
    samples: int
    """Samples in the last step that is counted."""
    micro_batch: int
    """Samples in a micro-batch, where that is not the batch size; the most frequent number."""
    steps: int
    """Steps counted."""
    steps_off: int
    """Those of them with another number of samples."""
    problem: str = ""
    """Why the samples of a batch cannot be counted, as a clause; empty if they can."""
    log_line: str = ""
    """Line of the log that says how many samples a step has; empty if they were counted."""
    rank: int | None = None
    """The process that drew them, if the run has several that drew different numbers; `declared` is its share then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnItems:
    """The items in the first steps as the task's `counts` tells them; not reported without it."""

    step: int
    """Last optimizer step that is counted."""
    steps: int
    """Steps counted."""
    fewest: dict[str, float]
    """Items of the step with the fewest, by loss term."""
    most: dict[str, float]
    """Items of the step with the most, by loss term."""
    micro_batches: int
    """Micro-batches counted."""
    empty: int
    """Those of them without an item of any term."""
    changed: tuple[float, ...] = ()
    """What `counts` returned for one micro-batch first and when it was called again; empty if it is the same."""
    smoke_batch_size: int
    """Samples in a micro-batch of the smoke run."""
    full_batch_size: int
    """Samples in a micro-batch of the full run."""
    per_sample: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """By term: items per sample in the smoke run's and in the full run's micro-batches, and the standard error of the
    difference. Empty if the sizes are equal, or could not be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnSamples:
    """The samples of one of the first steps, to tell which of them are the same."""

    step: int
    """Optimizer step that they were drawn for."""
    micro_batches: tuple[tuple[str, ...], ...]
    """Digest by sample of each micro-batch, in the order in which they are drawn: the ranks in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedItems:
    """The labels in the batches of one of the first steps, by source; the name of a source is empty if none is told."""

    step: int
    """Optimizer step that they were drawn for."""
    samples: dict[str, int]
    """Samples by source."""
    empty: dict[str, int]
    """Samples of several items, none of which has a label, by source."""
    items: dict[str, int]
    """Items by source, padding included: elements of the largest label tensor."""
    labelled: dict[str, int]
    """Items with a label that is not ignored, by source."""
    counts: dict[str, float] = field(default_factory=dict)
    """What `counts` returned for the whole step, by loss term; empty if the task has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEquivalence:
    """Gradient and loss of one batch in the smoke run's and in the full run's micro-batches, before step `step`.

    If both have the same size, in halves and as a whole instead.
    """

    step: int
    """Optimizer step before which it was computed."""
    stage: str = ""
    """Empty if the recipe declares no stages."""
    phase: str = ""
    """Empty if the stage has no phases."""
    samples: int
    """Samples in the batch."""
    smoke_batch_size: int
    """Samples in a micro-batch of the smoke run."""
    full_batch_size: int
    """Samples in a micro-batch of the full run."""
    batch_norm_layers: int
    """Layers whose statistics are those of a micro-batch."""
    half_precision: bool = False
    """Whether there are 16-bit weights, so that gradients are rounded to 16 bits."""
    difference: float = nan
    """2-norm of the difference of the gradients, divided by the larger norm; NaN if both are 0."""
    weights: dict[str, float] = field(default_factory=dict)
    """Weight by loss term."""
    smoke_terms: dict[str, float] = field(default_factory=dict)
    """Mean over the batch by loss term, in the smoke run's micro-batches."""
    full_terms: dict[str, float] = field(default_factory=dict)
    """Mean over the batch by loss term, in the full run's micro-batches."""
    batch_size_ignored: bool = False
    """Whether `batches` yields the same number of samples whatever batch size it is asked for."""
    problem: str = ""
    """Why the two could not be compared; empty if they were."""
    halves: bool = False
    """Whether both runs have the same micro-batches, and the sizes are those of half a batch and of the whole."""
    uneven: dict[str, float] = field(default_factory=dict)
    """With `halves`: share of the items in the first half, by term that is a mean over items, and not over samples."""
    has_counts: bool = False
    """Whether the task has `counts`."""
    summed: bool = False
    """With `halves`: whether the gradients of micro-batches are added up, so that two halves have twice that of one
    whole."""


@dataclass(frozen=True, slots=True)
class PredictionsFailed:
    """The task's `predictions` raised, or returned something other than rows."""

    text: str
    """What is wrong, as a sentence."""


@dataclass(frozen=True, slots=True)
class Updates:
    """Which parameters changed from the first step of a stage to its last."""

    unchanged: tuple[str, ...]
    """Trainable parameters that are bit for bit what they were."""
    without_gradient: tuple[str, ...]
    """Those of them that have no gradient after the last step."""
    outside_optimizer: tuple[str, ...]
    """Those of them that the optimizer does not hold."""
    checked: int
    """Number of trainable parameters."""
    changed_frozen: tuple[str, ...] = ()
    """Parameters that the stage freezes and that changed nevertheless."""
    rounded: tuple[str, ...] = ()
    """Those of the unchanged ones with a gradient so small that the update is lost in rounding."""
    zero_rate: tuple[str, ...] = ()
    """Those of the unchanged ones in a parameter group whose learning rate is 0."""
    stopped: dict[str, int] = field(default_factory=dict)
    """Trainable parameters that changed, but not in the second half of the stage, and since which step they do not."""


@dataclass(frozen=True, slots=True)
class StageEnded:
    """A stage ran to its end and reported everything; the next one waits for a command."""

    stage: str
    """Name of the stage."""
    train_seconds: float
    """Wall time of its steps, without probes and evaluations."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The training process has made its last step, and waits for a command before it saves the trained state."""

    steps: int
    """Optimizer steps made."""
    train_seconds: float
    """Wall time of the steps, without probes and evaluations."""
    peak_memory_gib: float | None
    """Peak memory allocated on the accelerator, in GiB; None on a CPU."""
    utilization_percent: float | None = None
    """Mean utilization of a CUDA device, in percent; None on other devices and without nvidia-ml-py."""


@dataclass(frozen=True, slots=True)
class Crashed:
    """The task or the training loop raised an exception."""

    reason: str
    """`invalid-task`, `missing-device`, `out-of-memory` or `exception`."""
    text: str
    """Type and message of the exception."""
    place: str
    """`file:line` of the innermost frame outside the libraries."""
    traceback: str
    """Newest lines of the traceback; empty if the message says it all."""
    key: str = ""
    """Dotted recipe key to blame; empty if it is the task itself."""
    cause: str = ""
    """The value in the batch that torch could not use, and what is allowed, as a clause; empty if none was found."""
    hint: str = ""
    """What to do about that value."""

    @property
    def summary(self) -> str:
        """The cause and the first line of the exception; its whole text if no cause was found."""
        return f"{self.cause}: {self.text.splitlines()[0]:.200}" if self.cause else self.text


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint was written, or could not be written."""

    step: int
    """The state is the one before this step."""
    kind: str
    """`trained`, `last-good` or `checked`."""
    folder: str
    """Its name in the run's checkpoint folder; empty if it could not be written."""
    problem: str = ""
    """Why it could not be written."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The run continues from a checkpoint; an earlier process reported what was before `step`."""

    step: int
    """First optimizer step after the checkpoint."""
    changed: tuple[str, ...] = ()
    """Parts of the state that differ from what was saved."""
    seconds: float = field(default=0.0, compare=False)
    """Wall time of the earlier processes, up to the checkpoint."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """There was a checkpoint to resume from, and it could not be used: the run starts at step 0."""

    why: str
    """Why the checkpoint could not be used, as a sentence."""


@dataclass(frozen=True, slots=True)
class BatchDigest:
    """Digest of the micro-batches of one step."""

    step: int
    """Optimizer step of the micro-batches."""
    digest: str
    """Equal for two steps if all tensors and plain values in their micro-batches are."""


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """A part of a pipeline stage starts; sent at once, so that a long stage is not taken for a hang."""

    stage: str
    """One of `PIPELINE_STAGES`."""
    doing: str
    """What starts, as a phrase for the progress line."""


@dataclass(frozen=True, slots=True)
class ExportStage:
    """A stage of the export pipeline ended."""

    name: str
    """One of `PIPELINE_STAGES`."""
    ok: bool
    """Whether it succeeded, so that later stages can use its result."""
    seconds: float
    """Wall time."""
    figures: dict[str, Any]
    """What was measured, builtins only; see the methods of `train.export.pipeline.Stages`."""
    reason: str = ""
    """Why it failed, as a kebab-case phrase."""
    text: str = ""
    """Why it failed, as a sentence."""
    place: str = ""
    """`file:line` of the innermost frame outside the libraries."""
    traceback: str = ""
    """Newest lines of the traceback."""


PIPELINE_STAGES = ("evaluate", "export", "quantize", "package", "load")
"""Stages of the export pipeline, in the order in which they run."""

Event = (
    Started
    | SourceFiles
    | DataFiles
    | Step
    | LogSpacing
    | Activity
    | NotChecked
    | LearningRateDiffers
    | ProbeLoss
    | ParameterNorm
    | Window
    | LossDiagnosis
    | Gradients
    | Metrics
    | InitialMetrics
    | SourceCounts
    | LargestBatch
    | Overfit
    | ModelMode
    | SharedStorage
    | UnusedParameters
    | NotSharded
    | BatchSizes
    | DrawnItems
    | DrawnSamples
    | SupervisedItems
    | BatchEquivalence
    | PredictionsFailed
    | Updates
    | StageEnded
    | ExportProgress
    | ExportStage
    | Ended
    | Crashed
    | Saved
    | Resumed
    | Restarted
    | BatchDigest
)


@dataclass(frozen=True, slots=True)
class Continue:
    """Command at the end of a stage: start the next one."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Command after the last step: save the trained state and exit."""


@dataclass(frozen=True, slots=True)
class EndAfterStage:
    """Command at the end of a stage: save the trained state and exit, because the stage failed its criteria."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Command at any time: stop training, run the gradient probe on the last good weights, and exit."""

    last_good_step: int | None
    """The probe runs on the newest weights in memory at or before this step; None: no probe."""


Command = Continue | Finish | EndAfterStage | Abort
"""What the pytest process tells the training process. None stands for "nothing yet" and for nothing else."""
