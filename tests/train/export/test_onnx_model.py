"""Real exports in onnxruntime: outputs, shapes, quantized weights, and a model whose forward is an ONNX file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_smoke.errors import TaskError
from pytest_smoke.train.export.model_io import (
    difference,
    dynamic_shapes_of,
    example_inputs_of,
    flat_outputs,
    tensors,
    variants,
)
from pytest_smoke.train.export.onnx_model import Session, export, onnx_forward, write_int8, write_onnx


class Tagger(nn.Module):
    """A tagger with nested outputs, one of them None, and a layer that its forward does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.head = nn.Embedding(20, 8), nn.Linear(8, 5)
        self.decoder = nn.Linear(5, 1)

    def forward(self, ids: Tensor, mask: Tensor, scale: Tensor | None = None) -> dict[str, Any]:
        hidden = self.letters(ids) * mask.unsqueeze(-1)
        emissions = self.head(hidden)
        return {"emissions": emissions, "nothing": scale, "more": (emissions.argmax(-1), mask.sum(1))}

    def decode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Call the forward and then another layer, as a task's evaluate may do."""
        return self.decoder(self(ids, mask=mask)["emissions"])  # type: ignore[no-any-return]


class Inputs:
    """The part of a task that an export uses."""

    def __init__(self, *inputs: Any) -> None:
        self.inputs = inputs

    def example_inputs(self) -> tuple[Any, ...]:
        return self.inputs


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    """Return a tagger with seeded random weights."""
    torch.manual_seed(0)
    return Tagger().eval()


@pytest.fixture(scope="module")
def written(tagger: Tagger, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export it from a batch of one, without a warning, and quantize it; return the ONNX file."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    inputs = ids_and_mask(1, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task: Any = Inputs(*inputs)
        examples = example_inputs_of(task)
        write_onnx(export(tagger, examples, dynamic_shapes_of(task, examples)), path)
        assert write_int8(path, path.with_name("int8.onnx")) == 2
    return path


def ids_and_mask(rows: int, length: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows * 100 + length)
    return torch.randint(20, (rows, length), generator=generator), torch.ones(rows, length)


@pytest.mark.parametrize(("rows", "length"), [(1, 8), (3, 8), (2, 3), (5, 13)])
def test_the_file_gives_the_models_outputs_for_other_batch_sizes_and_lengths(
    tagger: Tagger, written: Path, rows: int, length: int
) -> None:
    """Though the example input was a batch of one. None is not an output."""
    inputs = ids_and_mask(rows, length)
    expected = tensors(flat_outputs(tagger, inputs)[0])
    assert len(expected) == 3
    assert difference(expected, Session(written, threads=1).run(inputs)) < 1e-5


def test_the_file_contains_no_path_of_this_machine(written: Path) -> None:
    """The exporter adds the stack trace of every operation."""
    assert b".py" not in written.read_bytes()


def test_variants_have_one_more_row_and_half_the_length(written: Path) -> None:
    """Their values are those of the example."""
    session = Session(written, threads=1)
    assert session.dynamic_dimensions() == ["ids[0]", "ids[1]", "mask[0]", "mask[1]"]
    ids, mask = ids_and_mask(2, 8)
    inputs = variants((ids, mask), session.shapes)
    assert list(inputs) == ["the example inputs", "a batch of 3", "a length of 4"]
    assert [tuple(one.shape) for one in inputs["a batch of 3"]] == [(3, 8), (3, 8)]
    assert torch.equal(inputs["a length of 4"][0], ids[:, :4])
    assert list(variants((ids, mask), [[2, "8"], [2, "8"]])) == ["the example inputs"]


def test_onnx_forward_replaces_the_forward_and_nothing_else(tagger: Tagger, written: Path) -> None:
    """With arguments by position or by name, also in the model's own methods. On exit the forward is restored."""
    inputs = ids_and_mask(3, 8)
    int8 = Session(written.with_name("int8.onnx"), threads=1)
    before, after = tagger(*inputs)["emissions"], int8.run(inputs)[0]
    assert 1e-6 < difference([before], [after]) < 0.1
    leaves, spec = flat_outputs(tagger, inputs)
    int8.calls = 0
    with onnx_forward(tagger, int8, leaves, spec), torch.no_grad():
        returned = tagger(inputs[0], mask=inputs[1], scale=None)
        assert returned["nothing"] is None
        assert torch.equal(returned["emissions"], after)
        assert torch.equal(tagger.decode(*inputs), tagger.decoder(after))
        assert int8.calls == 2
        with pytest.raises(TaskError, match=r"3 inputs \(ids, mask, scale\), but it was exported with 2 tensors"):
            tagger(*inputs, scale=torch.ones(1))
    assert torch.equal(tagger(*inputs)["emissions"], before)
    assert "forward" not in vars(tagger)


def test_a_model_with_a_fixed_batch_size_cannot_be_exported() -> None:
    """Its file would work for one batch size only."""

    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(4, 3).sum(0)

    task: Any = Inputs(torch.ones(4, 3))
    inputs = example_inputs_of(task)
    with pytest.raises(Exception, match=r"(?i)constraint|specializ"):
        export(Fixed(), inputs, dynamic_shapes_of(task, inputs))


@pytest.mark.parametrize(
    ("task", "fragment"),
    [
        (Inputs(), r"returned \(\): it must return a tuple of at least one tensor"),
        (Inputs(torch.ones(1), 3), r"returned \(Tensor, int\)"),
    ],
)
def test_example_inputs_that_are_no_tuple_of_tensors_are_an_error(task: Any, fragment: str) -> None:
    with pytest.raises(TaskError, match=fragment):
        example_inputs_of(task)
