"""How far two results are apart, and the copy that is exported."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pytest_smoke.errors import ExportError
from pytest_smoke.train.export.outputs import difference, flat_outputs, on_cpu

numbers = st.floats(-1e6, 1e6, width=32) | st.sampled_from([math.inf, -math.inf, math.nan])
pairs = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6)


def by_hand(pairs: list[tuple[float, float]]) -> float:
    """The definition, number by number."""
    scale, apart = 0.0, 0.0
    for a, b in pairs:
        if math.isfinite(a) and math.isfinite(b):
            scale, apart = max(scale, abs(a)), max(apart, abs(a - b))
        elif not (a == b or (math.isnan(a) and math.isnan(b))):
            return math.inf
    return apart / (scale or 1.0)


@given(st.lists(pairs, min_size=1, max_size=3))
def test_the_difference_is_the_worst_outputs_largest_share(outputs: list[list[tuple[float, float]]]) -> None:
    """NaN is like NaN and an infinity like itself; neither is like a number."""
    reference = [torch.tensor([a for a, _ in one], dtype=torch.float32) for one in outputs]
    other = [torch.tensor([b for _, b in one], dtype=torch.float32) for one in outputs]
    assert difference(reference, other) == pytest.approx(max(map(by_hand, outputs)), rel=1e-9)


@given(st.lists(st.integers(-5, 5), min_size=1), st.lists(st.integers(-5, 5), min_size=1))
def test_whole_numbers_are_right_or_wrong(a: list[int], b: list[int]) -> None:
    """A label that is off by one is another label; and a shape that differs is no result."""
    assert (difference([torch.tensor(a)], [torch.tensor(b)]) == 0.0) == (a == b)
    assert math.isinf(difference([torch.tensor(a)], [torch.tensor(b)])) == (a != b)
    assert math.isinf(difference([torch.tensor(a)], []))


class Tied(nn.Module):
    """The output layer is the embedding; a buffer is part of the state."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.head.weight = self.letters.weight
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, ids: Tensor) -> Tensor:
        return self.scale * self.head(self.letters(ids))


def test_the_copy_is_the_models_own_in_evaluation_mode() -> None:
    """Tied parameters stay tied, gradients are left behind, and nothing of the original is shared or changed."""
    model = Tied().train()
    model(torch.arange(3)).sum().backward()
    copy = on_cpu(model)
    assert copy.head.weight is copy.letters.weight
    assert all(p.grad is None for p in copy.parameters())
    assert not any(module.training for module in copy.modules())
    assert model.training
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        copy.letters.weight.zero_()
        copy.scale.zero_()
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


def test_a_compiled_model_is_copied_without_its_compiler() -> None:
    """The package is loaded into what the task's model() wraps."""
    model = Tied()
    assert type(on_cpu(torch.compile(model, backend="eager"))) is Tied  # type: ignore[arg-type]  # torch types it so


def test_what_no_file_can_return_is_named() -> None:
    """A text beside the tensors, say."""

    class Says(nn.Module):
        def forward(self, x: Tensor) -> dict[str, object]:
            return {"logits": x, "none": None, "kind": "softmax"}

    with pytest.raises(ExportError, match="the model returns str: only tensors"):
        flat_outputs(Says(), [torch.ones(2)])
