"""Count the samples in the micro-batches that a run draws, and compare them with the batch size it asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch.nn.utils.rnn import PackedSequence

from pytest_smoke.events import BatchSizes
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.task import Task
from pytest_smoke.train.batch_equivalence import restored
from pytest_smoke.train.data import next_micro_batches
from pytest_smoke.train.device import isolated_eval
from pytest_smoke.train.hooks import has_hook
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.step import Stepper
from pytest_smoke.train.task import sources_of

STREAK = 8
"""Steps in a row with another number of samples that are reported as soon as they were made: the short last batch of an
epoch is one."""
SIZE_SEED_OFFSET = 4_000_003
"""Added to the seed of the two batches that show what grows with the batch size."""

Path = tuple[tuple[str, Any], ...]
"""Where a part of a batch is: `item` and a key or an index, `attribute` and a name, or `length` of a sequence."""
Place = tuple[Path, int]
"""A part of a batch, and a dimension of it."""
LENGTH = ("length", None)
LENGTH_OF_TENSORS = ("length", "tensors")
"""End of the path of a sequence; one of tensors may be a container of a few parts."""
Shapes = dict[Path, tuple[int, ...]]
"""Shape of each part of a batch that has one; a sequence has its length."""


class SizeCounter:
    """Compares the samples of each step with the declared number, `batch_size` x micro-batches of a step."""

    def __init__(self, plan: RunPlan) -> None:
        self._plan = plan
        self._declared = plan.micro_batches * len(plan.ranks) * plan.batch_size
        self.start_stage(plan.stages[0])

    def start_stage(self, stage: Stage) -> None:
        """Start counting a stage."""
        self._stage, self._streak, self._first_step = stage, 0, stage.first_step
        self._off = self._steps = 0
        self._sizes: Counter[int] = Counter()
        self._is_done = False

    def state_dict(self) -> dict[str, Any]:
        """Return the counts as builtins."""
        counts = {"streak": self._streak, "first_step": self._first_step, "off": self._off, "steps": self._steps}
        return {**counts, "sizes": dict(self._sizes), "done": self._is_done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the counts of `state_dict`."""
        self._streak, self._first_step, self._off, self._steps, sizes, self._is_done = state.values()
        self._sizes = Counter(sizes)

    def add_sizes(self, step: int, sizes: Sequence[int | str]) -> BatchSizes | None:
        """Count the samples in one step's micro-batches; a sentence says why they cannot be counted.

        Return an event if they show something, and at the end of the stage.
        """
        if self._is_done:
            return None
        samples = 0
        for size in sizes:
            if isinstance(size, str):
                return self._event(step, samples=0, problem=size)
            self._sizes[size] += 1
            samples += size
        self._steps += 1
        if samples == self._declared:
            self._streak = 0
        else:
            self._off += 1
            self._first_step = self._first_step if self._streak else step
            self._streak += 1
        if self._streak >= min(STREAK, self._stage.steps):
            return self._event(step, samples=samples)
        return self._event(step, samples=self._declared) if step == self._stage.end - 1 else None

    def _event(self, step: int, *, samples: int, problem: str = "") -> BatchSizes:
        self._is_done = True
        other = Counter({size: n for size, n in self._sizes.items() if size != self._plan.batch_size})
        return BatchSizes(
            step=step,
            stage=self._stage.name,
            first_step=self._first_step if samples != self._declared else self._stage.first_step,
            declared=self._declared,
            samples=samples,
            micro_batch=other.most_common(1)[0][0] if other else self._plan.batch_size,
            steps=self._steps,
            steps_off=self._off,
            problem=problem,
        )


class BatchSizeCounter(SizeCounter):
    """Counts samples step by step, from shapes alone: nothing is copied from the device.

    A part whose first dimension is the batch size is taken for the samples. If there is none, two batches of different
    sizes are drawn once per phase, apart from training, to find the dimension that grows.
    """

    def __init__(self, task: Task, plan: RunPlan, stepper: Stepper) -> None:
        self._task, self._stepper = task, stepper
        super().__init__(plan)

    def start_stage(self, stage: Stage) -> None:
        """Start counting a stage."""
        super().start_stage(stage)
        self.start_phase()

    def start_phase(self) -> None:
        """Forget where the samples of a batch are: the task may yield other batches now."""
        self._place: Place | None = None
        self._by_sources = False

    def add(self, step: int, batches: Sequence[Any]) -> BatchSizes | None:
        """Count one step's micro-batches; return an event if they show something, and at the end of the stage."""
        if self._is_done:
            return None
        sizes: list[int | str] = []
        for batch in batches:
            sizes.append(self._size(batch))
            if isinstance(sizes[-1], str):
                break
        return self.add_sizes(step, sizes)

    def _size(self, batch: Any) -> int | str:
        """Return the number of samples in a micro-batch; a sentence if it cannot be told."""
        asked = self._plan.batch_size
        if self._by_sources:
            return sum(sources_of(self._task, batch).values())
        if self._place is not None:
            try:
                return size_at(batch, self._place)
            except (KeyError, IndexError, AttributeError, TypeError):  # this batch has another form
                self._place = None
        shapes = dict(shapes_of(batch))
        for path, shape in shapes.items():
            if shape[0] == asked:
                self._place = path, 0
                return asked
        found = self._find(shapes, batch)
        if isinstance(found, str):
            return found
        if found is not None:
            self._place = found
            return shapes[found[0]][found[1]]
        self._by_sources = True
        return sum(sources_of(self._task, batch).values())

    def _find(self, shapes: Shapes, batch: Any) -> Place | str | None:
        """Find the dimension with one entry per sample; None if `sources` counts them, a sentence if it is unknown."""
        if has_hook(self._task, "sources"):
            return None
        asked, seed, stepper = self._plan.batch_size, self._plan.seed + SIZE_SEED_OFFSET, self._stepper
        if asked == 1:
            return "a batch of one sample may have no dimension for it"
        try:
            with isolated_eval(stepper.model, stepper.device), restored(stepper.model, self._task):
                smaller, larger = (
                    dict(shapes_of(next_micro_batches([iter(self._task.batches(size, seed=seed))], 1)[0]))
                    for size in (asked, 2 * asked)
                )
        except Exception as error:
            return f"batches({2 * asked}) raised {type(error).__name__}"
        return sample_place(shapes, smaller, larger, asked)


def sample_place(drawn: Shapes, smaller: Shapes, larger: Shapes, asked: int) -> Place | str:
    """Return the dimension with one entry per sample in a batch that was `drawn` for `asked` samples.

    `smaller` and `larger` are batches for `asked` and twice as many samples. Returns a sentence if it cannot be told: a
    first dimension may be time, or rows into which samples are packed, or several views of each sample.
    """
    growing = [
        (path, axis)
        for path, shape in smaller.items()
        for axis, size in enumerate(shape)
        if size and path in drawn and len(shape) == len(drawn[path]) and _grows(size, axis, larger.get(path, ()), asked)
    ]
    for path, axis in growing:
        if smaller[path][axis] == asked:
            return path, axis
    if not growing:
        return _constant_place(drawn, smaller, larger, asked)
    sizes = {smaller[path][axis] for path, axis in growing}
    if len(sizes) > 1:
        return "its parts have different first dimensions"
    (size,) = sizes
    first = [path for path, axis in growing if axis == 0]
    if not first:
        return "no first dimension grows with the batch size"
    if any(drawn[path][0] != size for path in first):
        return "its first dimension varies from batch to batch, as that of packed samples does"
    if size > asked and size % asked == 0:
        if all(len(smaller[path]) == 1 for path in first):
            return "it is flat, as packed samples are"
        if len(first) < 2:
            return f"it has {size // asked} rows per sample, which may be views of it"
    return first[0], 0


def _grows(size: int, axis: int, larger: tuple[int, ...], asked: int) -> bool:
    """Tell whether a dimension doubled, or grew by as many as were asked for more."""
    return axis < len(larger) and larger[axis] in (2 * size, size + asked)


def _constant_place(drawn: Shapes, smaller: Shapes, larger: Shapes, asked: int) -> Place | str:
    """Return the first dimension of batches whose size does not depend on the one that is asked for."""
    parts = [
        {path: shape for path, shape in shapes.items() if path[-1:] != (LENGTH_OF_TENSORS,)}
        for shapes in (drawn, smaller, larger)
    ]
    if len({shape[0] for shapes in parts for shape in shapes.values()}) != 1:
        return "no dimension grows with the batch size"
    if all(asked in shape[1:2] for shape in parts[0].values()):
        return "its first dimension may be time"
    return next(iter(parts[0])), 0


def size_at(batch: Any, place: Place) -> int:
    """Return the size of a dimension of a batch. Raises an error of the lookup if the batch has another form."""
    value, (path, axis) = batch, place
    for kind, key in path:
        if kind == "item":
            value = value[key]
        elif kind == "attribute":
            value = getattr(value, key)
    if isinstance(value, PackedSequence):
        return int(value.batch_sizes[0])
    if isinstance(value, int):
        return value
    return int(value.shape[axis]) if hasattr(value, "shape") else len(value)


def shapes_of(value: Any, path: Path = ()) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """Yield the shapes in nested containers, with their paths. Scalars have none."""
    if isinstance(value, PackedSequence):
        yield path, (int(value.batch_sizes[0]),)
    elif hasattr(value, "shape"):
        shape = tuple(map(int, value.shape))
        if shape:
            yield path, shape
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from shapes_of(part, (*path, ("item", key)))
    elif isinstance(value, list | tuple):
        yield from _sequence(value, path)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from shapes_of(getattr(value, field.name), (*path, ("attribute", field.name)))
    elif isinstance(graphs := getattr(value, "num_graphs", None), int):  # torch_geometric.data.Batch
        yield (*path, ("attribute", "num_graphs")), (graphs,)
    elif hasattr(value, "__dict__"):
        for name, part in vars(value).items():
            yield from shapes_of(part, (*path, ("attribute", name)))


def _sequence(value: Sequence[Any], path: Path) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """Yield the length of a sequence, which may be one of samples, and the shapes in it."""
    if not value:
        return
    kinds = {type(part) for part in value}
    tensors = all(hasattr(part, "shape") for part in value)
    if len(kinds) == 1 and not hasattr(value, "_fields"):
        yield (*path, LENGTH_OF_TENSORS if tensors else LENGTH), (len(value),)
    if tensors or len(kinds) > 1 or isinstance(value[0], list | tuple):
        for number, part in enumerate(value):
            yield from shapes_of(part, (*path, ("item", number)))
