"""Values are written into tensors of any layout."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pytest_smoke.train.in_place import write_


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, 3),
        torch.zeros(3, 2).T,
        torch.zeros(()),
        torch.zeros(1).expand(3),
        torch.zeros(2, 1).expand(2, 3),
        torch.zeros(2, 1, 2).expand(2, 4, 2).transpose(0, 2),
        torch.zeros(1).expand(0),
        torch.full((1,), float("nan")).expand(2, 2),
    ],
    ids=["dense", "transposed", "scalar", "expanded", "expanded-at-last", "expanded-and-transposed", "empty", "nan"],
)
def test_values_are_written_into_a_tensor_of_any_layout(tensor: Tensor) -> None:
    values = torch.ones(tensor.shape)
    write_(tensor, values)
    assert torch.equal(tensor, values)
