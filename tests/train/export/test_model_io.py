"""The difference of two outputs, and the copy of a model that is exported."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pytest_smoke.errors import ExportError
from pytest_smoke.train.export.model_io import copy_to_cpu, difference, flat_outputs

numbers = st.floats(-1e6, 1e6, width=32) | st.sampled_from([math.inf, -math.inf, math.nan])
pairs = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6)


def reference_difference(pairs: list[tuple[float, float]]) -> float:
    """Compute the difference number by number, as it is defined."""
    scale, largest = 0.0, 0.0
    for a, b in pairs:
        if math.isfinite(a) and math.isfinite(b):
            scale, largest = max(scale, abs(a)), max(largest, abs(a - b))
        elif not (a == b or (math.isnan(a) and math.isnan(b))):
            return math.inf
    return largest / (scale or 1.0)


@given(st.lists(pairs, min_size=1, max_size=3))
def test_the_difference_is_the_largest_of_all_outputs(
    outputs: list[list[tuple[float, float]]],
) -> None:
    """NaN equals NaN, an infinity equals itself, and neither equals a number."""
    reference = [torch.tensor([a for a, _ in one], dtype=torch.float32) for one in outputs]
    other = [torch.tensor([b for _, b in one], dtype=torch.float32) for one in outputs]
    assert difference(reference, other) == pytest.approx(max(map(reference_difference, outputs)), rel=1e-9)


@given(st.lists(st.integers(-5, 5), min_size=1), st.lists(st.integers(-5, 5), min_size=1))
def test_integers_and_shapes_are_either_equal_or_infinitely_different(a: list[int], b: list[int]) -> None:
    assert (difference([torch.tensor(a)], [torch.tensor(b)]) == 0.0) == (a == b)
    assert math.isinf(difference([torch.tensor(a)], [torch.tensor(b)])) == (a != b)
    assert math.isinf(difference([torch.tensor(a)], []))


class Tied(nn.Module):
    """A model whose head shares its weight with the embedding, with a buffer."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.head.weight = self.letters.weight
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, ids: Tensor) -> Tensor:
        return self.scale * self.head(self.letters(ids))


def test_the_copy_is_in_evaluation_mode_with_tied_parameters_and_shares_nothing_with_the_original() -> None:
    model = Tied().train()
    model(torch.arange(3)).sum().backward()
    copy = copy_to_cpu(model)
    assert copy.head.weight is copy.letters.weight
    assert all(p.grad is None for p in copy.parameters())
    assert not any(module.training for module in copy.modules())
    assert model.training
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        copy.letters.weight.zero_()
        copy.scale.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_compiled_model_is_copied_uncompiled() -> None:
    """A package is loaded into the module that the task's model() compiles."""
    model = Tied()
    assert type(copy_to_cpu(torch.compile(model, backend="eager"))) is Tied  # type: ignore[arg-type]  # torch types it so


def test_an_output_that_onnx_does_not_support_is_named() -> None:

    class Labelled(nn.Module):
        def forward(self, x: Tensor) -> dict[str, object]:
            return {"logits": x, "none": None, "kind": "softmax"}

    with pytest.raises(ExportError, match="the model returns str: only tensors"):
        flat_outputs(Labelled(), [torch.ones(2)])
