"""The task protocol: what a recipe's `task:` names. Importing it imports neither torch nor anything else heavy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class Task(Protocol):
    """What a recipe's `task:` names: a class or function that is called with the recipe's `args`.

    Any object with the three methods below is a task; subclassing `Task` only helps type checkers. The following hooks
    are optional. A public name that is close to one of them (`optimiser`, say) is rejected with a TaskError, since it
    would never be called.

    `loss_weights: Mapping[str, float]`
        Weight of each loss term; 1 for a term that is not named. The recipe's `loss_weights` override it.
    `optimizer(model, learning_rate) -> torch.optim.Optimizer`
        The optimizer of a stage, made after `on_stage_start`. At least one parameter group must have `learning_rate`,
        the peak learning rate of the stage; the schedule multiplies the rate of every group. Default:
        `torch.optim.AdamW` over the parameters that require a gradient.
    `counts(batch) -> float | Mapping[str, float]`
        Number of items (tokens, say) that each loss term of this micro-batch is a mean over, for all terms or by term;
        finite and not negative. Default: 1. See `losses`.
    `evaluate(model) -> Mapping[str, float]`
        Metrics by name, for criteria and reports. Called in evaluation mode without gradients: once before the first
        step, every `smoke.evaluate_every_steps` optimizer steps, and after the last step of the run and of each stage.
        The first call shows early that it works and returns every metric that a criterion names; criteria do not use
        its values. Return the same names each time, with NaN for what is not known yet. A metric must not have the name
        of a loss term, nor `loss`, `lr`, `grad_norm` or `probe_loss`. Default: no metrics.
    `predictions(model) -> Iterable[Mapping[str, Any]]`
        Rows `{"raw": text, "gold": spans, "pred": spans}` of held-out examples, with spans as `pytest_smoke.diagnose`
        reads them; their errors are sorted by kind. Called once, after the last step, like `evaluate`; an exception in
        it becomes a warning. Default: no predictions.
    `probe_batch() -> batch`
        The probe batch: a fixed batch whose loss is computed about 40 times per stage, in evaluation mode. Called at
        the start of every stage and phase. Default: micro-batches of at least 64 samples in total, from `batches` with
        another seed.
    `on_stage_start(model, stage, phase) -> None`
        Called at the start of every stage, and of every phase in it, if the recipe declares stages; `phase` is None in
        a stage without phases. It may change the model in place, and what `batches` and `losses` do from then on.
        Parameters can be added at the start of a stage only, because the optimizer is made there.
    `data_files() -> Iterable[path]`, or an attribute with the paths
        Files and folders with the data that the task trains on, relative to pytest's rootdir. Their digests are in the
        receipt of a promotion, and `gate` compares them: of a file or folder of up to 64 MiB all content counts, of a
        larger one all names, all sizes, and evenly spaced parts of the content. Called once, before the first step.
        Default: none, so that a change of the data is not noticed.
    `largest_batch() -> batch`
        The micro-batch that takes the most memory, as `batches` may yield it: the longest sequences, the largest
        images. A forward and a backward pass are made on it before the first step, so that running out of memory is
        found there. Default: none is tried.
    `parallelize(model, mesh) -> None`
        Shard the model in place over the processes of `launch`, with `torch.distributed.fsdp.fully_shard(module,
        mesh=mesh)`. `mesh` is a DeviceMesh with one dimension, `dp`. Called once in every process, after the first
        `on_stage_start` and before the optimizer is made. What is left whole is replicated. Without `launch` it is not
        called. Default: the processes train with DistributedDataParallel.
    `sources(batch) -> Mapping[str, int] | Sequence[str]`
        Number of samples by source in a micro-batch, or the source of each sample. The sampled mix is compared with the
        recipe's `mix`. Called with the batch on the host, only until enough samples are counted. Default: the sampled
        mix is not checked.
    `example_inputs() -> tuple[Tensor, ...]`
        Positional arguments of the model's `forward`, on the CPU, with which the pipeline exports the model. Needed by
        `smoke.pipeline`; no default.
    `dynamic_shapes() -> Any`
        The argument of that name of `torch.export.export`. Default: the first dimension of every input with the batch
        size is dynamic, and the second one too if the model allows it.
    `labels: Sequence[str]`, or a method that returns them
        Names of the model's classes, written to its package. Default: none.

    A task that breaks this contract ends the smoke run with the verdict `error` and the reason `invalid-task`.
    """

    def model(self) -> nn.Module:
        """Return a new model on the CPU. Python's, NumPy's and torch's generators are seeded before the call."""
        ...

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Return an infinite iterator over micro-batches of `batch_size` samples: tensors, or containers of tensors.

        The order must depend on `seed` alone, and the ranks of one epoch must not share samples. Tensors in mappings,
        lists, tuples and named tuples, and objects with a `to` method, are moved to the device. An iterable with
        `state_dict` and `load_state_dict` is resumed from its state; any other is read from the start.
        """
        ...

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        """Return the loss terms by name: scalar tensors, each a mean over the micro-batch. Never empty.

        The names must be the same for every batch of a stage or phase. The loss of an optimizer step is the weighted
        sum of the terms, each averaged over the step's micro-batches. That equals the loss of one big batch if every
        micro-batch averages over the same number of items. If not (tokens without padding, say), return the number of
        items from `counts`: each micro-batch is then weighted by its share of the step's items.
        """
        ...
