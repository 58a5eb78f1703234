"""The inputs a model is exported with, and further ones of other shapes that its export must serve too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from pytest_smoke.errors import TaskError
from pytest_smoke.train.task import Task

Shape = Sequence[int | str | None]
"""Sizes of an ONNX input; a name where it may vary."""
LENGTH = "a length of"
"""How the name of a variant with another length begins."""


def example_inputs_of(task: Task) -> tuple[Tensor, ...]:
    """The task's example inputs, on the CPU. Raises TaskError where they are other things than tensors.

    A batch of one is doubled: `torch.export` takes a size of 1 for a constant.
    """
    given = task.example_inputs()  # type: ignore[attr-defined]  # optional, and asked for by check_needs
    if not isinstance(given, tuple) or not given or not all(isinstance(one, Tensor) for one in given):
        kinds = ", ".join(type(one).__name__ for one in given) if isinstance(given, tuple) else type(given).__name__
        raise TaskError(f"example_inputs() returned ({kinds}): it must be a tuple of one tensor or more, by position")
    inputs = tuple(one.detach().cpu() for one in given)
    batch = _batch_of(inputs)
    if batch != 1:
        return inputs
    return tuple(torch.cat([one, one]) if one.ndim and one.shape[0] == 1 else one for one in inputs)


def dynamic_shapes_of(task: Task, inputs: Sequence[Tensor]) -> Any:
    """The task's own, or: the first dimension must vary (it is the batch), the second may where the model allows.

    `Dim.DYNAMIC` makes `torch.export` raise where the model fixes the batch; `Dim.AUTO` lets it fix a length.
    """
    own = getattr(task, "dynamic_shapes", None)
    if own is not None:
        return own()
    batch = _batch_of(inputs)
    return tuple(
        {0: Dim.DYNAMIC, **({1: Dim.AUTO} if one.ndim > 1 else {})} if one.ndim and one.shape[0] == batch else {}
        for one in inputs
    )


def variants(inputs: Sequence[Tensor], shapes: Sequence[Shape]) -> dict[str, tuple[Tensor, ...]]:
    """The example inputs, and the same with one row more and with half the length, where `shapes` say they may vary.

    The further row is the first one again, and a shorter input is a longer one's beginning: values stay plausible.
    """
    found = {"the example inputs": tuple(inputs)}
    rows = [one.ndim > 0 and varies(shape[0]) for one, shape in zip(inputs, shapes, strict=True)]
    if any(rows):
        batch = next(one.shape[0] for one, grows in zip(inputs, rows, strict=True) if grows)
        pairs = zip(inputs, rows, strict=True)
        found[f"a batch of {batch + 1}"] = tuple(torch.cat([one, one[:1]]) if grows else one for one, grows in pairs)
    seconds = [
        shape[1] if one.ndim > 1 and varies(shape[1]) else None for one, shape in zip(inputs, shapes, strict=True)
    ]
    names = {name for name in seconds if name}
    # Of two lengths, or of one that is computed from another ("s1 + 1"), nobody here knows which values fit together.
    if len(names) == 1 and str(next(iter(names))).isidentifier():
        length = next(one.shape[1] for one, name in zip(inputs, seconds, strict=True) if name)
        if length > 3:
            half = length // 2
            pairs_ = zip(inputs, seconds, strict=True)
            found[f"{LENGTH} {half}"] = tuple(one[:, :half].contiguous() if name else one for one, name in pairs_)
    return found


def varies(size: int | str | None) -> bool:
    """Whether a size of an ONNX input is free; the exporter writes some fixed ones as text."""
    return isinstance(size, str) and not size.isdigit()


def _batch_of(inputs: Sequence[Tensor]) -> int:
    """Size of the first dimension of the first input that has one."""
    return next((int(one.shape[0]) for one in inputs if one.ndim), 0)
