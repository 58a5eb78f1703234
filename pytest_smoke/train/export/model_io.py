"""Inputs and outputs of an exported model: example inputs, inputs of other shapes, and how far outputs differ."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.export import Dim

from pytest_smoke.errors import ExportError, TaskError
from pytest_smoke.task import Task
from pytest_smoke.text import listed
from pytest_smoke.train.hooks import hook_of

Shape = Sequence[int | str | None]
"""Sizes of an ONNX input; the name of a dynamic dimension is a text."""
OTHER_LENGTH = "a length of"
"""Prefix of the name of example inputs with another length."""


def example_inputs_of(task: Task) -> tuple[Tensor, ...]:
    """Return the task's example inputs, on the CPU. Raises TaskError if they are not a tuple of tensors.

    A batch of one sample is doubled, because `torch.export` takes a size of 1 for a constant.
    """
    given = task.example_inputs()  # type: ignore[attr-defined]  # optional, and required by check_needs
    if not isinstance(given, tuple) or not given or not all(isinstance(one, Tensor) for one in given):
        kinds = ", ".join(type(one).__name__ for one in given) if isinstance(given, tuple) else type(given).__name__
        raise TaskError(f"example_inputs() returned ({kinds}): it must return a tuple of at least one tensor")
    inputs = tuple(one.detach().cpu() for one in given)
    if _batch_size(inputs) != 1:
        return inputs
    return tuple(torch.cat([one, one]) if one.ndim and one.shape[0] == 1 else one for one in inputs)


def dynamic_shapes_of(task: Task, inputs: Sequence[Tensor]) -> Any:
    """Return the task's `dynamic_shapes`, or the default: a dynamic first dimension, and a second one if possible.

    `Dim.DYNAMIC` makes `torch.export` raise if the model fixes the batch size; `Dim.AUTO` lets it fix a length.
    """
    own = hook_of(task, "dynamic_shapes")
    if own is not None:
        return own()
    batch = _batch_size(inputs)
    return tuple(
        {0: Dim.DYNAMIC, **({1: Dim.AUTO} if one.ndim > 1 else {})} if one.ndim and one.shape[0] == batch else {}
        for one in inputs
    )


def variants(inputs: Sequence[Tensor], shapes: Sequence[Shape]) -> dict[str, tuple[Tensor, ...]]:
    """Return the example inputs, and as far as `shapes` allow it the same with one more row and with half the length.

    The additional row repeats the first one, and a shorter input is the start of a longer one, so that values stay
    plausible.
    """
    by_name = {"the example inputs": tuple(inputs)}
    has_rows = [one.ndim > 0 and is_dynamic(shape[0]) for one, shape in zip(inputs, shapes, strict=True)]
    if any(has_rows):
        batch = next(one.shape[0] for one, dynamic in zip(inputs, has_rows, strict=True) if dynamic)
        by_name[f"a batch of {batch + 1}"] = tuple(
            torch.cat([one, one[:1]]) if dynamic else one for one, dynamic in zip(inputs, has_rows, strict=True)
        )
    length_names = [
        shape[1] if one.ndim > 1 and is_dynamic(shape[1]) else None for one, shape in zip(inputs, shapes, strict=True)
    ]
    names = {name for name in length_names if name}
    # With two lengths, or one that is computed from another ("s1 + 1"), it is not known which sizes fit together.
    if len(names) == 1 and str(next(iter(names))).isidentifier():
        length = next(one.shape[1] for one, name in zip(inputs, length_names, strict=True) if name)
        if length > 3:
            half = length // 2
            by_name[f"{OTHER_LENGTH} {half}"] = tuple(
                one[:, :half].contiguous() if name else one for one, name in zip(inputs, length_names, strict=True)
            )
    return by_name


def is_dynamic(size: int | str | None) -> bool:
    """Tell whether a size of an ONNX input is dynamic; the exporter writes some fixed sizes as texts."""
    return isinstance(size, str) and not size.isdigit()


def flat_outputs(model: nn.Module, inputs: Sequence[Tensor]) -> tuple[list[Any], pytree.TreeSpec]:
    """Return the leaves of the model's outputs and their structure: tensors, and None, in nested containers.

    Raises ExportError for any other leaf, which an ONNX file cannot return.
    """
    with torch.no_grad():
        leaves, spec = pytree.tree_flatten(model(*inputs))
    unsupported = [type(leaf).__name__ for leaf in leaves if not isinstance(leaf, Tensor) and leaf is not None]
    if unsupported:
        raise ExportError(
            "unsupported-output",
            f"the model returns {listed(unsupported)}: only tensors, and nested containers of them, can be exported",
        )
    # Cloned: a model may return an input, or a buffer that its next call overwrites.
    return [leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves], spec


def tensors(leaves: Sequence[Any]) -> list[Tensor]:
    """Return the leaves that are tensors."""
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def difference(reference: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Return the largest |a - b| of an output, divided by the largest |a| of that output; the worst of all outputs.

    Infinite if shapes differ, if one value is infinite or NaN and the other is not, and if integers or booleans differ:
    a label is either right or wrong.
    """
    if len(reference) != len(other):
        return float("inf")
    return max((_difference(a, b) for a, b in zip(reference, other, strict=True)), default=0.0)


def _difference(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    if not a.is_floating_point():
        return 0.0 if torch.equal(a, b.to(a.dtype)) else float("inf")
    a, b = a.double(), b.double()
    finite = a.isfinite() & b.isfinite()
    # nan_to_num maps infinities to the largest finite values, so 0.5 stands for NaN alone.
    if not torch.equal(a[~finite].nan_to_num(nan=0.5), b[~finite].nan_to_num(nan=0.5)):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = a[finite].abs().max().item() or 1.0
    return (a - b)[finite].abs().max().item() / scale


def copy_to_cpu(model: nn.Module) -> nn.Module:
    """Return a copy on the CPU in evaluation mode, without gradients; no copy is made on the device.

    `deepcopy` finds the copies of parameters and buffers in its memo, so that tied ones stay tied.
    """
    model = unwrapped(model)
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("cpu", copy=True), parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach().to("cpu", copy=True)
    return copy.deepcopy(model, memo).eval()


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module that `torch.compile` wrapped, or the model itself."""
    inner = getattr(model, "_orig_mod", model)
    assert isinstance(inner, nn.Module)
    return inner


def _batch_size(inputs: Sequence[Tensor]) -> int:
    """Return the size of the first dimension of the first input that has one; 0 without such an input."""
    return next((int(one.shape[0]) for one in inputs if one.ndim), 0)
