"""Write into the tensors of a model, whatever their layout."""

from __future__ import annotations

from torch import Tensor


def write_(tensor: Tensor, values: Tensor) -> None:
    """Copy values of the same shape into a tensor.

    An expanded one has a single element along some dimensions, and torch refuses to write it there more than once.
    """
    for dimension, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if stride == 0 and size > 1:
            tensor, values = tensor.narrow(dimension, 0, 1), values.narrow(dimension, 0, 1)
    tensor.copy_(values)
