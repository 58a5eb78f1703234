"""What a model returns, flat, and how far two such results are apart."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn

from pytest_smoke.errors import ExportError


def flat_outputs(model: nn.Module, inputs: Sequence[Tensor]) -> tuple[list[Any], pytree.TreeSpec]:
    """Leaves of what the model returns: tensors, in nests of tuples, lists and mappings; None is a leaf too.

    Raises Broken for any other leaf, which no ONNX file can return.
    """
    with torch.no_grad():
        leaves, spec = pytree.tree_flatten(model(*inputs))
    strange = [type(leaf).__name__ for leaf in leaves if not isinstance(leaf, Tensor) and leaf is not None]
    if strange:
        raise ExportError(
            "outputs", f"the model returns {', '.join(strange)}: only tensors, and nests of them, are exported"
        )
    # A model may return an input, or a buffer that its next call overwrites.
    return [leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves], spec


def tensors(leaves: Sequence[Any]) -> list[Tensor]:
    """The leaves that are tensors."""
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def difference(reference: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Largest |a - b| of an output, as a share of that output's largest |a|; the worst of all outputs.

    Infinite where shapes differ, where one is infinite or NaN and the other is not, and where whole numbers or truth
    values differ: a label is right or wrong.
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
    if not torch.equal(a[~finite].nan_to_num(nan=0.5), b[~finite].nan_to_num(nan=0.5)):  # 0.5: no infinity becomes it
        return float("inf")
    if not finite.any():
        return 0.0
    scale = a[finite].abs().max().item() or 1.0
    return (a - b)[finite].abs().max().item() / scale


def on_cpu(model: nn.Module) -> nn.Module:
    """A copy on the CPU in evaluation mode, without gradients; no copy is made on the device.

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
    """The module that `torch.compile` wrapped, or the model itself."""
    inner = getattr(model, "_orig_mod", model)
    assert isinstance(inner, nn.Module)
    return inner
