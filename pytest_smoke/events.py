"""What a child tells its parent while it runs, and what the parent may answer. Plain values: they cross a pipe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import nan
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Started:
    """The task is built and the first step is next."""

    device: str
    device_name: str
    torch: str
    parameters: int
    trainable: int


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step."""

    step: int
    loss: float
    """Weighted sum of the terms, mean over the effective batch, before the update."""
    terms: dict[str, float]
    grad_norm: float
    """2-norm of the whole gradient before clipping."""
    lr: float
    stage: str = ""
    """Empty if the recipe declares no stages."""
    phase: str = ""
    """Empty if the stage has no phases."""


@dataclass(frozen=True, slots=True)
class ProbeLoss:
    """Loss on the fixed probe batch, in evaluation mode, before step `step`."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class ParameterNorm:
    """2-norm of all parameters after step `step`: finite, or the update broke them."""

    step: int
    norm: float


@dataclass(frozen=True, slots=True)
class Gradients:
    """The terms' gradients, one by one, over the effective batch of step `step`."""

    step: int
    raw: dict[str, float]
    """2-norm by term."""
    weighted: dict[str, float]
    """2-norm by term, times the size of the term's weight: what really pulls."""
    cosines: dict[str, float]
    """Cosine by `term/term` pair; NaN where one of them is zero."""
    postmortem: bool = False
    """Taken on the last good checkpoint after the run was stopped, not during it."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """What the task's `evaluate` returned before step `step`.

    After the last one of a run: its number plus 1; after the last one of a stage: its number.
    """

    step: int
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """What the sampler drew from the first step to step `step`, as the task's `sources` says."""

    step: int
    samples: int
    counts: dict[str, int]
    """Samples by source."""
    design_effect: float
    """Variance of a source's share over that of as many independent samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEquivalence:
    """One batch in micro-batches of the smoke's size and of the full run's, before step `step`."""

    step: int
    stage: str = ""
    """Empty if the recipe declares no stages."""
    phase: str = ""
    """Empty if the stage has no phases."""
    samples: int
    """Samples in the batch."""
    smoke: int
    full: int
    """Samples in a micro-batch."""
    batch_norm: int
    """Layers whose statistics are those of a micro-batch."""
    half: bool = False
    """Whether there are weights of 16 bits, to which gradients are rounded."""
    difference: float = nan
    """2-norm of the gradients' difference, as a share of the larger norm; NaN where both are 0."""
    weights: dict[str, float] = field(default_factory=dict)
    smoke_terms: dict[str, float] = field(default_factory=dict)
    full_terms: dict[str, float] = field(default_factory=dict)
    """Each loss term's weight, and its mean over the batch."""
    ignored: bool = False
    """Whether the task gives as many samples, whatever batch size it is asked for."""
    problem: str = ""
    """Why they could not be compared."""

    def but(self, **changes: Any) -> Self:
        """The same with `changes`."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class PredictionsFailed:
    """The task's `predictions` raised, or gave what are no rows."""

    text: str


@dataclass(frozen=True, slots=True)
class Updates:
    """Parameters that require a gradient and are bit for bit what they were before the first step of the stage."""

    stuck: tuple[str, ...]
    without_gradient: tuple[str, ...]
    outside_optimizer: tuple[str, ...]
    checked: int
    moved: tuple[str, ...] = ()
    """Parameters that the stage freezes and that changed all the same."""


@dataclass(frozen=True, slots=True)
class StageEnded:
    """A stage ran to its end, and everything of it has been reported. Another one starts at the parent's `Go`."""

    stage: str
    train_seconds: float
    """Wall time of its steps, without probes and evaluations."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The child did all it was asked."""

    steps: int
    train_seconds: float
    """Wall time of the steps, without probes and evaluations."""
    peak_memory_gib: float | None
    """Peak allocated on the accelerator; None on a CPU."""
    utilization_percent: float | None = None
    """Mean share of the time in which a CUDA device computed; None elsewhere, and without nvidia-ml-py."""


@dataclass(frozen=True, slots=True)
class Crashed:
    """The task or the loop raised."""

    reason: str
    """`task`, `out-of-memory` or `exception`."""
    text: str
    """Type and message of the exception."""
    place: str
    """`file:line` of the innermost frame outside the libraries."""
    traceback: str
    key: str = ""
    """The recipe's key that it speaks of, dotted."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint was written, or could not be."""

    step: int
    """The state is that before this step."""
    kind: str
    folder: str
    """Its name within the run's checkpoint folder; empty where it could not be written."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The run goes on from a checkpoint: what was before `step` was told by an earlier process."""

    step: int
    changed: tuple[str, ...] = ()
    """Parts of the state that are not what they were when it was saved."""
    seconds: float = field(default=0.0, compare=False)
    """Wall time of the earlier processes, up to the checkpoint."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """There was a checkpoint to go on from, and it could not be used."""

    why: str


@dataclass(frozen=True, slots=True)
class BatchDigest:
    """The batches of a step, in short."""

    step: int
    digest: str
    """Of every tensor and plain value in them; equal where they are."""


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """A part of a pipeline stage begins; sent at once, so that a stage of many seconds is no silence."""

    stage: str
    doing: str


@dataclass(frozen=True, slots=True)
class ExportStage:
    """A stage of the pipeline ended."""

    name: str
    """One of `PIPELINE_STAGES`."""
    ok: bool
    """Whether later stages can build on it."""
    seconds: float
    figures: dict[str, Any]
    """What was measured, builtins only: see each stage in `run/pipeline/stages.py`."""
    reason: str = ""
    text: str = ""
    """Where it broke: one word for scripts, and a sentence."""
    place: str = ""
    """`file:line` of the innermost frame outside the libraries."""
    traceback: str = ""


PIPELINE_STAGES = ("evaluate", "export", "quantize", "package", "load")
"""In the order in which they run."""

Event = (
    Started
    | Step
    | ProbeLoss
    | ParameterNorm
    | Gradients
    | Metrics
    | SourceCounts
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
    """Command after the last step: save the trained state and leave."""


@dataclass(frozen=True, slots=True)
class EndAfterStage:
    """Command at the end of a stage: save the trained state and leave, the stage failed its criteria."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Command at any time: stop training, run the gradient probe on the last good weights, and leave."""

    last_good_step: int | None
    """The probe runs on the newest weights in memory at or before this step; None: no probe."""


Command = Continue | Finish | EndAfterStage | Abort
"""What the pytest process tells the training process. None stands for "nothing yet" and for nothing else."""
