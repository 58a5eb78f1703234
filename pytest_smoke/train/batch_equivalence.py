"""Compare the gradient of one batch in the smoke run's micro-batches and in the full run's, or whole and in halves."""

from __future__ import annotations

import copy
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from math import lcm
from typing import Any

import torch
from torch import Tensor, nn

from pytest_smoke.errors import UnsplittableBatchError
from pytest_smoke.events import BatchEquivalence
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.task import Task
from pytest_smoke.train.crash import crash_of
from pytest_smoke.train.data import next_micro_batches
from pytest_smoke.train.device import isolated_eval, seed_all
from pytest_smoke.train.hooks import hook_of
from pytest_smoke.train.in_place import write_
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.sharding import total_norm, whole
from pytest_smoke.train.stepping import Rerunning

BATCH_SEED_OFFSET = 3_000_003
"""Added to the seed of the batch that is split, so that it differs from the training batches."""
NOT_ROUNDING = 1e-3
"""Relative difference of two gradients that rounding in fp32, about 1e-6, does not explain."""

TOLERANCE, HALF_TOLERANCE = 0.01, 0.05
"""Relative difference of the gradients of a batch and of its halves from which they are looked at term by term: those
of the check `accumulation`, in fp32 and where gradients are rounded to 16 bits."""
BATCHES_OF_HALVES = 3
"""Batches that are compared with their halves. Two halves of four samples, each long or short, are equal in every
fourth batch."""
TERMS_IN_HALVES = 8
"""Loss terms that are looked at one by one, at most: each costs five passes over a batch."""
RANDOM = (
    "two passes over the same micro-batches differ: in evaluation mode, losses() draws random numbers or keeps state "
    "from call to call"
)

Pass = tuple[list[Tensor | None], list[Tensor]]
"""Gradient by parameter, and the loss terms' means."""
Split = Callable[[slice], Any]
"""Returns the samples in a slice of a batch as a batch of its own."""


def compare_batch_sizes(plan: RunPlan, task: Task, stepper: Rerunning, stage: Stage, step: int) -> BatchEquivalence:
    """Compute the gradient of one batch in both sizes of micro-batches, before `step`.

    If the smoke run's and the full run's are of one size, the sizes are a whole batch and its halves: what changes then
    is wrong in both runs.

    In evaluation mode, because dropout masks depend on the size, and without autocast, because neither rounding nor a
    loss scale may decide. Model, task, gradients and random number generators are restored. What goes wrong is returned
    in the event and not raised, because the run can train without the comparison.
    """
    smoke, full, model = plan.batch_size, plan.full_batch_size or plan.batch_size, stepper.model
    halves = smoke == full
    if halves:
        smoke, full = (smoke // 2, full) if smoke % 2 == 0 else (smoke, 2 * full)
    event = BatchEquivalence(
        step=step,
        stage=stage.name,
        phase=stage.phase_at(step),
        samples=lcm(smoke, full),
        smoke_batch_size=smoke,
        full_batch_size=full,
        batch_norm_layers=_batch_norm_layers(model),
        halves=halves,
        has_counts=hook_of(task, "counts") is not None,
        half_precision=(stepper.keeps_autocast and plan.precision != "fp32") or stepper.parts.computes_in_half,
    )
    try:
        with (
            isolated_eval(model, stepper.device),
            torch.enable_grad(),
            torch.compiler.set_stance("force_eager"),  # else the model would be compiled for these sizes, too
            _without_cudnn(),
            restored(model, task),
        ):
            return _compared_halves(event, plan, task, stepper) if halves else _compared(event, plan, task, stepper)
    except UnsplittableBatchError as error:
        return replace(event, problem=str(error))
    except torch.OutOfMemoryError:
        return replace(event, problem=f"{max(smoke, full)} samples do not fit into the device's memory in fp32")
    except Exception as error:
        crash = crash_of(error, plan.root)
        first_line = (crash.text.splitlines() or [""])[0]
        at = f" at {crash.place}" if crash.place else ""
        return replace(event, problem=f"{first_line:.200}{at} (in evaluation mode, without autocast)")
    finally:
        stepper.clear_gradients()


def _compared(event: BatchEquivalence, plan: RunPlan, task: Task, stepper: Rerunning) -> BatchEquivalence:
    seed = plan.seed + BATCH_SEED_OFFSET
    splitter = _splitter(event, task, seed)
    if not splitter.grows:
        if splitter.lengths and event.smoke_batch_size not in splitter.lengths:
            return replace(event, batch_size_ignored=True)
        raise _not_growing(event)
    smoke_batches, full_batches = (splitter.split(size) for size in (event.smoke_batch_size, event.full_batch_size))

    def run(micro_batches: Sequence[Any], seed: int) -> Pass:
        seed_all(seed)
        return stepper.gradient(micro_batches)

    full, smoke = run(full_batches, seed), run(smoke_batches, seed)
    if _differ(smoke, full) and _differ(run(full_batches, seed + 1), full):
        return replace(event, problem=RANDOM)
    smoke_terms, full_terms = (
        dict(zip(stepper.terms, torch.stack(values).tolist(), strict=True)) for _, values in (smoke, full)
    )
    weights = dict(zip(stepper.terms, stepper.weights, strict=True))
    difference = _difference(smoke[0], full[0])
    return replace(event, difference=difference, weights=weights, smoke_terms=smoke_terms, full_terms=full_terms)


def _compared_halves(event: BatchEquivalence, plan: RunPlan, task: Task, stepper: Rerunning) -> BatchEquivalence:
    """Compare a batch with its halves; several batches, because two halves may have as many items by chance."""
    weights = stepper.weights
    tolerance = HALF_TOLERANCE if event.half_precision else TOLERANCE
    difference = 0.0
    for seed in range(plan.seed + BATCH_SEED_OFFSET, plan.seed + BATCH_SEED_OFFSET + BATCHES_OF_HALVES):
        splitter = _splitter(event, task, seed)
        if not splitter.grows:
            raise _not_growing(event)
        (whole,), (left, right) = splitter.split(event.full_batch_size), splitter.split(event.smoke_batch_size)

        def run(micro_batches: Sequence[Any], seed: int = seed) -> Pass:
            seed_all(seed)
            return stepper.gradient(micro_batches)

        full, cut = run([whole]), run([left, right])
        difference = _difference(cut[0], full[0])
        if not difference > tolerance:
            continue
        if _differ(run([whole], seed + 1), full):
            return replace(event, problem=RANDOM)
        if _difference(cut[0], [None if one is None else 2.0 * one for one in full[0]]) <= tolerance:
            return replace(event, difference=difference, summed=True)
        del full, cut
        uneven: dict[str, float] = {}
        try:
            for at, term in enumerate(stepper.terms[:TERMS_IN_HALVES]):
                if weights[at]:
                    stepper.weights = tuple(float(other == at) for other in range(len(weights)))
                    full, cut = run([whole]), run([left, right])
                    if _difference(cut[0], full[0]) > tolerance:
                        share = _share_of_first(full[0], run([left])[0], run([right])[0], tolerance=tolerance)
                        uneven |= {} if share is None else {term: share}
        finally:
            stepper.weights = weights
        return replace(event, difference=difference, uneven=uneven)
    return replace(event, difference=difference)


def _share_of_first(
    full: Sequence[Tensor | None], left: Sequence[Tensor | None], right: Sequence[Tensor | None], *, tolerance: float
) -> float | None:
    """Return the share of a batch's items in its first half if the gradient is that of a mean over items.

    It is then whole = share left + (1 - share) right. None if it is not: of a sum, or of a loss that compares samples.
    """
    rows = [
        (one, torch.zeros_like(one) if a is None else a, torch.zeros_like(one) if b is None else b)
        for one, a, b in zip(full, left, right, strict=True)
        if one is not None
    ]
    apart = sum(float(whole((a - b).double().square().sum())) for _, a, b in rows)
    along = sum(float(whole(((a - b) * (one - b)).double().sum())) for one, a, b in rows)
    size = sum(float(whole(one.double().square().sum())) for one, _, _ in rows)
    if not apart > 0.0 or not size > 0.0:
        return None
    share = along / apart
    rest = sum(float(whole((one - b - share * (a - b)).double().square().sum())) for one, a, b in rows)
    return share if 0.0 <= share <= 1.0 and rest <= tolerance**2 * size else None


def _splitter(event: BatchEquivalence, task: Task, seed: int) -> BatchSplitter:
    few = min(event.smoke_batch_size, event.full_batch_size)
    batch, smaller = (next_micro_batches([iter(task.batches(size, seed=seed))], 1)[0] for size in (event.samples, few))
    return BatchSplitter(batch, smaller, samples=event.samples, few=few)


def _not_growing(event: BatchEquivalence) -> UnsplittableBatchError:
    few = min(event.smoke_batch_size, event.full_batch_size)
    return UnsplittableBatchError(f"batches({event.samples}) yields as many samples as batches({few})")


def _differ(a: Pass, b: Pass) -> bool:
    """Tell whether gradients or loss terms differ by more than rounding."""
    if _difference(a[0], b[0]) > NOT_ROUNDING:
        return True
    return any(float((x - y).abs()) > NOT_ROUNDING * float(y.abs()) for x, y in zip(a[1], b[1], strict=True))


def _difference(left: Sequence[Tensor | None], right: Sequence[Tensor | None]) -> float:
    """Return the 2-norm of the difference of two gradients, divided by the larger norm; NaN if both are 0."""
    differences = [
        a - b if a is not None and b is not None else a if b is None else b for a, b in zip(left, right, strict=True)
    ]
    norms = [total_norm([g for g in gradient if g is not None]) for gradient in (differences, left, right)]
    return float(norms[0] / torch.maximum(norms[1], norms[2]))


def _batch_norm_layers(model: nn.Module) -> int:
    kind = nn.modules.batchnorm._BatchNorm
    return sum(isinstance(module, kind) and module.training for module in model.modules())


@contextmanager
def _without_cudnn() -> Iterator[None]:
    """Disable cuDNN, whose recurrent layers have no backward pass in evaluation mode.

    Not with `cudnn.flags`: it raises if the task has set the precision of convolutions by the newer names.
    """
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


@contextmanager
def restored(model: nn.Module, task: Task) -> Iterator[None]:
    """Restore the buffers and attributes of the model and the task's attributes on exit.

    Examples are a cache filled with another batch size, a hidden state, a running mean. What is changed in place inside
    an attribute is not restored. Modules that the task holds are in evaluation mode in between, as the model is.
    """
    task_attributes = vars(task) if hasattr(task, "__dict__") else {}
    task_modules = [value for value in task_attributes.values() if isinstance(value, nn.Module)]
    modules = list(dict.fromkeys(part for root in (model, *task_modules) for part in root.modules()))
    buffers = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers(recurse=False)]
    namespaces = [task_attributes, *map(vars, modules), *(module._buffers for module in modules)]
    saved = [(namespace, dict(namespace)) for namespace in namespaces]
    try:
        for module in task_modules:
            module.eval()
        yield
    finally:
        for namespace, attributes in saved:
            for name in namespace.keys() - attributes.keys():
                del namespace[name]
            for name, value in attributes.items():
                if namespace.get(name) is not value:  # an assignment would make torch.compile recompile
                    namespace[name] = value
        with torch.no_grad():
            for buffer, value in buffers:
                write_(buffer, value)


class BatchSplitter:
    """Splits `batch` of `samples` samples; `smaller`, a batch of only `few`, shows which parts grow with the samples.

    Tensors, arrays and sequences that are as long as either batch are split along their first dimension. Text, flags
    and None are shared, and so are numbers and arrays that are equal in both (a temperature, class weights). Everything
    else raises UnsplittableBatchError: a value that differs may be a sum over the batch, and another dimension may be
    time.
    """

    def __init__(self, batch: Any, smaller: Any, *, samples: int, few: int) -> None:
        self._samples, self._few = samples, few
        self.grows = False
        """Whether a part of the batch grows with the samples."""
        self.lengths: set[int] = set()
        """First dimensions of its tensors and arrays."""
        self._varying = ""
        """What is wrong with an array that has the same shape but other values in both batches."""
        self._split = self._any(batch, smaller, "batch")
        if self.grows and self._varying:
            raise UnsplittableBatchError(self._varying)

    def split(self, size: int) -> list[Any]:
        """Return batches of `size` samples, a divisor of their number."""
        return [self._split(slice(first, first + size)) for first in range(0, self._samples, size)]

    def _any(self, part: Any, smaller: Any, place: str) -> Split:
        if isinstance(part, int | float) and not isinstance(part, bool):
            self._check_equal(part, smaller, place)
            return _shared(part)
        if type(part) is not type(smaller):
            raise self._differs(place, f"of type {type(part).__name__}", f"of type {type(smaller).__name__}")
        if part is None or isinstance(part, str | bytes | bool):
            return _shared(part)
        if hasattr(part, "shape"):
            return self._array(part, smaller, place)
        if isinstance(part, Mapping):
            return self._mapping(part, smaller, place)
        if isinstance(part, list | tuple):
            return self._sequence(part, smaller, place)
        if is_dataclass(part) and not isinstance(part, type):
            return self._dataclass(part, smaller, place)
        raise UnsplittableBatchError(f"{place} is of type {type(part).__name__}, which cannot be split")

    def _differs(self, place: str, value: str, smaller: str, cause: str = "") -> UnsplittableBatchError:
        return UnsplittableBatchError(
            f"{place} is {value} in a batch of {self._samples} samples and {smaller} in one of {self._few}{cause}"
        )

    def _check_equal(self, part: float, smaller: Any, place: str) -> None:
        if part != smaller:
            cause = ": it depends on the whole batch, so compute it in losses()"
            raise self._differs(place, str(part), str(smaller), cause)

    def _array(self, part: Any, smaller: Any, place: str) -> Split:
        shape, smaller_shape = tuple(part.shape), tuple(smaller.shape)
        if not shape and not smaller_shape:
            self._check_equal(part.item(), smaller.item(), place)
            return _shared(part)
        self.lengths |= set(shape[:1])
        if (shape[:1], smaller_shape[:1]) == ((self._samples,), (self._few,)):
            self.grows = True
            return part.__getitem__  # type: ignore[no-any-return]  # any kind of array
        if shape != smaller_shape:
            cause = ": only the first dimension can be split"
            raise self._differs(place, f"of shape {shape}", f"of shape {smaller_shape}", cause)
        if not bool((part == smaller).all()):
            self._varying = (
                f"{place} is of shape {shape} in batches of both sizes, but has other values: it depends on the whole "
                "batch, so compute it in losses()"
            )
        return _shared(part)

    def _mapping(self, part: Mapping[Any, Any], smaller: Mapping[Any, Any], place: str) -> Split:
        if part.keys() != smaller.keys():
            raise UnsplittableBatchError(
                f"{place} has different keys in batches of {self._samples} and of {self._few} samples"
            )
        splits = {key: self._any(value, smaller[key], f"{place}[{key!r}]") for key, value in part.items()}

        def split(samples: slice) -> Any:
            values = {key: one(samples) for key, one in splits.items()}
            if not isinstance(part, UserDict):
                return values
            result = copy.copy(part)  # the BatchEncoding of a tokenizer: its keys are attributes, too
            result.data = values
            return result

        return split

    def _sequence(self, part: Any, smaller: Any, place: str) -> Split:
        is_named = hasattr(part, "_fields")
        if not is_named and (len(part), len(smaller)) == (self._samples, self._few):
            self.grows = True
            return part.__getitem__  # type: ignore[no-any-return]  # a list's or a tuple's
        if len(part) != len(smaller):
            raise self._differs(place, f"of length {len(part)}", f"of length {len(smaller)}")
        pairs = enumerate(zip(part, smaller, strict=True))
        splits = [self._any(value, other, f"{place}[{index}]") for index, (value, other) in pairs]
        make = type(part)._make if is_named else type(part)
        return lambda samples: make(one(samples) for one in splits)

    def _dataclass(self, part: Any, smaller: Any, place: str) -> Split:
        names = [field.name for field in fields(part) if field.init]
        splits = {name: self._any(getattr(part, name), getattr(smaller, name), f"{place}.{name}") for name in names}
        return lambda samples: replace(part, **{name: one(samples) for name, one in splits.items()})


def _shared(part: Any) -> Split:
    return lambda _: part
