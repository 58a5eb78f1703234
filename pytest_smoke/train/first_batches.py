"""Look at the samples of a run's first steps: which of them are the same, and how many of their items have a label."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from pytest_smoke.events import DrawnSamples, Event, SupervisedItems
from pytest_smoke.task import Task
from pytest_smoke.train.digest import digest
from pytest_smoke.train.hooks import hook_of
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.task import counts_of

STEPS = 32
"""First steps that are looked at, at most."""
ENOUGH_STEPS = 8
"""Steps after which the run is looked at no longer if enough samples were seen."""
ENOUGH_SAMPLES = 2048
"""Samples that are enough: to hash them takes some tenths of a second."""
STEP_SAMPLES = 1024
"""Samples of a step that are hashed, at most; of larger steps the first samples of each micro-batch."""
ROW_ELEMENTS = 4096
"""Elements of a sample's tensor that are hashed, evenly spaced: enough to tell two images apart."""
IGNORED = -100
"""Label that torch's losses ignore by default."""
PADDING = (0, IGNORED)
"""Values that pad most integer tensors."""
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8)
"""Types that can hold -100."""
LABEL_NAME = re.compile(r"(label|target|tag)s?\d*$|^y$|[._]y$", re.IGNORECASE)
"""Last part of a batch's path under which integers are taken for labels."""


class FirstBatches:
    """Reports the samples and labels of a run's first steps, from their batches as `batches` yields them.

    A batch on an accelerator is copied to the host, which waits for it, in the first steps only. What a batch does not
    tell is not reported: nothing here is an error of the task.
    """

    def __init__(self, task: Task, plan: RunPlan) -> None:
        self._task, self._plan = task, plan
        self._steps = self._samples = 0
        self._is_active = True

    def state_dict(self) -> dict[str, Any]:
        """Return how much was looked at as builtins."""
        return {"steps": self._steps, "samples": self._samples, "active": self._is_active}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of `state_dict`."""
        self._steps, self._samples, self._is_active = state["steps"], state["samples"], state["active"]

    def add(self, step: int, batches: Sequence[Any], terms: tuple[str, ...]) -> list[Event]:
        """Return what there is to report about one step's micro-batches."""
        if not self._is_active or step >= STEPS:
            return []
        try:
            per_batch = max(1, STEP_SAMPLES // len(batches))
            drawn = [sample_digests(batch, self._plan.batch_size, per_batch) for batch in batches]
            items = self._supervised(step, batches, terms)
        except Exception:  # a batch of a kind that nobody foresaw
            self._is_active = False
            return []
        self._steps += 1
        self._samples += sum(map(len, drawn))
        self._is_active = self._steps < ENOUGH_STEPS or self._samples < ENOUGH_SAMPLES
        events: list[Event] = []
        if all(drawn):
            events.append(DrawnSamples(step=step, micro_batches=tuple(map(tuple, drawn))))
        return [*events, *items]

    def _supervised(self, step: int, batches: Sequence[Any], terms: tuple[str, ...]) -> list[Event]:
        samples, empty, items, labelled = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
        for batch in batches:
            columns = label_columns(batch, self._plan.batch_size)
            for source, rows in self._sources(batch, len(columns[0])).items() if columns else ():
                largest = max((column[rows] for column in columns), key=Tensor.numel)
                samples[source] += len(rows)
                empty[source] += _without_label([column[rows] for column in columns])
                items[source] += largest.numel()
                labelled[source] += int((largest != IGNORED).sum())
        if not samples:
            return []
        counts: dict[str, float] = {}
        for batch in batches if hook_of(self._task, "counts") is not None else ():
            for term, counted in zip(terms, counts_of(self._task, batch, terms), strict=True):
                counts[term] = counts.get(term, 0.0) + counted
        by_source = {"samples": samples, "empty": empty, "items": items, "labelled": labelled}
        figures = {name: dict(counter) for name, counter in by_source.items()}
        return [SupervisedItems(step=step, counts=counts, **figures)]

    def _sources(self, batch: Any, samples: int) -> dict[str, list[int]]:
        """Return the rows of each source; all rows under an empty name if the task does not tell them apart."""
        name_of = hook_of(self._task, "sources")
        given = name_of(batch) if name_of is not None else None
        if isinstance(given, Mapping) and len(given) == 1:
            return {str(next(iter(given))): list(range(samples))}
        if given is None or isinstance(given, Mapping | str) or len(given) != samples:
            return {"": list(range(samples))}
        rows: dict[str, list[int]] = {}
        for row, source in enumerate(given):
            rows.setdefault(str(source), []).append(row)
        return rows


def sample_digests(batch: Any, expected: int, limit: int) -> list[str]:
    """Return one digest per sample of a micro-batch, of the first `limit`: equal for equal samples.

    `expected`: the number of samples that was asked for. Padding at the end of integer rows does not count, because it
    depends on the other samples. Empty if the batch has no parts of one length, or only one value in all of them: it is
    not known then whether its samples differ.
    """
    size, columns = _columns(batch, expected)
    if not columns or not any(map(_has_two_values, columns.values())):
        return []
    count = min(size, limit)
    totals = [blake2b(digest_size=8) for _ in range(count)]
    for path, column in columns.items():
        for total, content in zip(totals, _rows(column, count), strict=True):
            total.update(f"{path}\0".encode())
            total.update(content)
    return [total.hexdigest() for total in totals]


def label_columns(batch: Any, expected: int) -> list[Tensor]:
    """Return the integer tensors [samples, ...] of a micro-batch that hold labels: by name, or as -100 is in them."""
    columns = _columns(batch, expected)[1].items()
    integers = [(path, column) for path, column in columns if isinstance(column, Tensor) and column.dtype in INTEGERS]
    return [column for path, column in integers if LABEL_NAME.search(path) or bool((column == IGNORED).any())]


def _without_label(columns: Sequence[Tensor]) -> int:
    """Count the samples of several items, none of which has a label."""
    rows = [column.flatten(1) for column in columns if column.ndim > 1]
    if not rows:
        return 0
    return int((~torch.stack([(row != IGNORED).any(1) for row in rows]).any(0)).sum())


def _columns(batch: Any, expected: int) -> tuple[int, dict[str, Any]]:
    """Return the number of samples, and by path the parts of a batch that have one entry per sample."""
    parts = dict(_parts(batch, "", expected))
    lengths = Counter(len(part) for part in parts.values())
    if not lengths:
        return 0, {}
    size, parts_of_size = (expected, 1) if expected in lengths else lengths.most_common(1)[0]
    if size != expected and parts_of_size < min(2, len(parts)):
        return 0, {}
    return size, {path: part for path, part in parts.items() if len(part) == size}


def _parts(value: Any, path: str, expected: int) -> Iterator[tuple[str, Any]]:
    """Yield what may have one entry per sample in nested containers: tensors, and sequences; each with its path."""
    if isinstance(value, Tensor):
        if value.ndim:
            yield path, value
    elif hasattr(value, "shape"):
        try:
            array = torch.as_tensor(value)
        except TypeError:  # an array of texts or of objects
            array = value.tolist()
        yield from _parts(array, path, expected)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _parts(part, f"{path}.{key}" if path else str(key), expected)
    elif isinstance(value, list | tuple):
        if all(isinstance(part, str | bytes | int | float | None) for part in value) or _is_column(value, expected):
            yield path, value
            return
        for number, part in enumerate(value):
            yield from _parts(part, f"{path}[{number}]", expected)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _parts(getattr(value, field.name), f"{path}.{field.name}" if path else field.name, expected)
    elif hasattr(value, "__dict__"):
        yield from _parts(vars(value), path, expected)


def _is_column(parts: Sequence[Any], expected: int) -> bool:
    """Tell whether the entries of a sequence are samples, and not tensors that have one row per sample each."""
    lengths = [tuple(getattr(part, "shape", ()))[:1] for part in parts]
    return not hasattr(parts, "_fields") and len(parts) == expected and any(length != (expected,) for length in lengths)


def _has_two_values(column: Any) -> bool:
    if isinstance(column, Tensor):
        flat = column.flatten()
        parts = (flat[:ROW_ELEMENTS], flat)  # nearly always the first part tells
        return any(bool((part != part[0]).any()) for part in parts) if len(flat) else False
    return len({digest(entry) for entry in column}) > 1 or any(hasattr(entry, "shape") for entry in column)


def _rows(column: Any, count: int) -> Iterator[bytes | memoryview]:
    """Yield the content of the first `count` entries of a part as bytes."""
    if not isinstance(column, Tensor):
        yield from (digest(entry).encode() for entry in column[:count])
        return
    rows = column[:count].detach().cpu().reshape(count, -1)
    integer = not rows.is_floating_point() and not rows.is_complex()
    ends = [rows.shape[1]] * count
    if integer and column.ndim == 2 and rows.shape[1] > 1:
        ends = _unpadded_lengths(rows)
    elif rows.shape[1] > ROW_ELEMENTS:
        rows = rows[:, :: rows.shape[1] // ROW_ELEMENTS]
        ends = [rows.shape[1]] * count
    rows = rows.contiguous()
    width, item = rows.shape[1] * rows.element_size(), rows.element_size()
    if not rows.nbytes:
        yield from [b""] * count
        return
    # By address: Tensor.numpy() needs NumPy, which torch does not require, and does not support bfloat16.
    content = memoryview((ctypes.c_char * rows.nbytes).from_address(rows.data_ptr())).cast("B")
    for row, end in enumerate(ends):
        yield bytes(content[row * width : row * width + end * item])


def _unpadded_lengths(rows: Tensor) -> list[int]:
    """Return the length of each integer row [rows, length] without the padding at its end.

    0 and -100 pad, and so does a value that ends some row at least twice in a row.
    """
    ends = rows[:, -1:]
    padding = rows[rows[:, -1] == rows[:, -2], -1]
    if rows.dtype in INTEGERS:
        padding = torch.cat([padding, torch.tensor(PADDING, dtype=rows.dtype)])
    filled = (rows != ends) | ~torch.isin(ends, padding)
    return (torch.arange(1, rows.shape[1] + 1) * filled).amax(1).tolist()
