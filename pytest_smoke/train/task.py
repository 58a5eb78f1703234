"""The user's side of a smoke: a task, and how it is found."""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from itertools import islice
from operator import index
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pytest_smoke.errors import TaskError

PROBE_SAMPLES = 64
"""Samples of the default probe batch, at least: its standard error is an eighth of one sample's spread."""
PROBE_SEED_OFFSET = 1_000_003
"""Added to the seed for the default probe batch, so that it is drawn apart from the training order."""


REQUIRED = ("model", "batches", "losses")
OPTIONAL = (
    *("loss_weights", "optimizer", "counts", "evaluate", "probe_batch", "sources", "on_stage_start", "predictions"),
    *("example_inputs", "dynamic_shapes", "labels"),
)
"""Names of a task that are looked for and need not be there."""


class Task(Protocol):
    """What a recipe's `task:` names, called with the recipe's `args`.

    Only the three methods below are required. Optional ones, with their defaults:

    `loss_weights: Mapping[str, float]`
        Weight by term; default 1. The recipe's `full.loss_weights` overrides it.
    `optimizer(model, learning_rate) -> torch.optim.Optimizer`
        Default `torch.optim.AdamW` over the parameters that require a gradient. At least one group must have the
        given peak learning rate; every group's own is multiplied by the schedule.
    `counts(batch) -> float | Mapping[str, float]`
        How many items each term of this micro-batch is a mean over (tokens, say); default 1 each. See `losses`.
    `evaluate(model) -> Mapping[str, float]`
        Metrics for the criteria. Called in evaluation mode without gradients; default none.
    `predictions(model) -> Iterable[Mapping]`
        Rows `{"raw": text, "gold": spans, "pred": spans}` of held-out examples, spans as `pytest_smoke.diagnose` takes
        them; their errors are sorted. Called once, after the last step, as `evaluate` is; default none.
    `probe_batch() -> Batch`
        The fixed batch scored about 40 times a smoke; default micro-batches of 64
        samples or more in all, drawn apart from the training order. Asked for anew in every stage and phase.
    `on_stage_start(model, stage, phase) -> None`
        Called where a stage begins, and each of its phases (`phase` is None in a stage without). It may change the
        model in place and what `batches` and `losses` do from there on; parameters are added where a stage begins.
        `optimizer` is called after it, once a stage, and must hold what requires a gradient then.
    `sources(batch) -> Mapping[str, int] | Sequence[str]`
        How many samples of each source a micro-batch holds, or each sample's source, in Python values: what was drawn
        is then held against the recipe's `mix`. Called before the batch is moved to the device, in the first steps
        only; default: what was drawn is not known.
    `example_inputs() -> tuple[Tensor, ...]`
        What the model's forward takes, by position, on the CPU; the pipeline exports the model with it. No default.
    `dynamic_shapes() -> Any`
        As `torch.export.export` takes it; default: the first dimension of each input is the batch, the second may vary
        where the model allows.
    `labels: Sequence[str]`, or a method that returns them
        Names of the model's classes, for its package; default none.
    """

    def model(self) -> nn.Module:
        """A new model on the CPU; the seed is set before the call."""
        ...

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """An iterator without end over micro-batches of `batch_size` samples: tensors, or nests of them.

        The order depends on `seed` alone, and ranks share no sample of an epoch.
        """
        ...

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        """Named scalar loss terms, each a mean over the micro-batch.

        One step's loss is the mean of its micro-batches', so it equals the loss of one big batch where all of them
        average over equally many items. Where they do not (tokens without padding, say), return the number of items
        from `counts(batch)`: each micro-batch then weighs its share of the step's items, as in one big batch.
        """
        ...


def load_task(reference: str, args: Mapping[str, Any]) -> Task:
    """Import `package.module:Name` and call it with `args`.

    Raises TaskError where the name is missing, the arguments do not fit, or a required method is not there. What the
    module itself raises on import passes through.
    """
    module_name, _, name = reference.partition(":")
    module = importlib.import_module(module_name)
    try:
        factory = getattr(module, name)
    except AttributeError:
        raise TaskError(f"{module.__file__} has no {name!r}") from None
    try:
        inspect.signature(factory).bind(**args)
    except TypeError as error:
        text = f"{reference} does not take the recipe's args {dict(args)}: {error}"
        raise TaskError(text, key="args") from None
    task = factory(**args)
    missing = [method for method in REQUIRED if not callable(getattr(task, method, None))]
    if missing:
        raise TaskError(f"{reference} is no task: it has no method {', '.join(missing)}")
    for name in (name for name in dir(task) if not name.startswith("_") and name not in (*REQUIRED, *OPTIONAL)):
        near = get_close_matches(name, [known for known in OPTIONAL if not hasattr(task, known)], n=1, cutoff=0.8)
        # A file name in `self.source` is no misspelt sources().
        if near and callable(getattr(task, name)) == (
            near[0] != "loss_weights"
        ):  # a misspelt optimizer() would leave another recipe to be judged
            raise TaskError(f"{reference} has {name!r}, which nothing calls; did you mean {near[0]!r}?")
    return task  # type: ignore[no-any-return]  # checked above as far as a protocol can be at run time


def optimizer_of(task: Task, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """The task's optimizer, or AdamW. Raises TaskError where no group has the recipe's learning rate."""
    make = getattr(task, "optimizer", None)
    if make is None:
        # The fused kernel needs no host synchronisation where a loss scaler decides whether to step.
        trainable = [p for p in model.parameters() if p.requires_grad]
        return torch.optim.AdamW(trainable, lr=learning_rate, fused=trainable[0].is_cuda)
    optimizer = make(model, learning_rate)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TaskError(f"optimizer(model, learning_rate) returned {type(optimizer).__name__}, not a torch optimizer")
    rates = sorted({float(group["lr"]) for group in optimizer.param_groups})
    if learning_rate not in rates:
        found = ", ".join(f"{rate:g}" for rate in rates)
        raise TaskError(
            f"optimizer(model, learning_rate={learning_rate:g}) made groups with lr {found}: "
            "at least one must have the recipe's learning rate, or its schedule is not what the verdict says it is"
        )
    return optimizer


def counts_of(task: Task, batch: Any, terms: tuple[str, ...]) -> list[float]:
    """Items each term of a micro-batch is a mean over. Raises TaskError for a count that is negative or missing."""
    count = getattr(task, "counts", None)
    if count is None:
        return [1.0] * len(terms)
    given = count(batch)
    try:
        found = [float(given[term]) if isinstance(given, Mapping) else float(given) for term in terms]
    except KeyError as missing:
        raise TaskError(f"counts(batch) has no entry for the loss term {missing}: it has {sorted(given)}") from None
    except (TypeError, ValueError):
        raise TaskError(f"counts(batch) returned {given!r:.200}: it must be one number, or one by term") from None
    if any(not 0 <= items < float("inf") for items in found):
        raise TaskError(f"counts(batch) returned {given!r}: every count must be finite and not negative")
    return found


def sources_of(task: Task, batch: Any) -> dict[str, int]:
    """Samples by source in a micro-batch. Raises TaskError where `sources` names none, or says it in another way."""
    given = task.sources(batch)  # type: ignore[attr-defined]  # optional, and only called where it is there
    try:
        if isinstance(given, Mapping):
            found = {source: index(count) for source, count in given.items()}
        else:
            found = dict(Counter(() if isinstance(given, str) else given))
        if all(isinstance(source, str) for source in found) and sum(found.values()) > 0 <= min(found.values()):
            return found
    except TypeError:
        pass
    raise TaskError(
        f"sources(batch) returned {given!r:.200}: it must map the sources' names to numbers of samples, or list the "
        "source of each sample, and name one sample or more"
    )


def probe_batches_of(task: Task, batch_size: int, *, seed: int) -> list[Any]:
    """The task's fixed probe batch, or micro-batches of at least `PROBE_SAMPLES` in all, drawn under another seed."""
    own = getattr(task, "probe_batch", None)
    if own is not None:
        return [own()]
    count = -(-PROBE_SAMPLES // batch_size)
    return list(islice(task.batches(batch_size, seed=seed + PROBE_SEED_OFFSET), count))


def metrics_of(found: Any) -> dict[str, float]:
    """What `evaluate` returned, as numbers by name. Raises TaskError where it is no such thing."""
    try:
        return {str(name): float(value) for name, value in found.items()}
    except (AttributeError, TypeError, ValueError):
        raise TaskError(f"evaluate(model) returned {found!r:.200}: it must map names to numbers") from None
