"""A model as an ONNX file: written, quantized, and run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pytest_smoke.train.export.inputs import Shape, varies

ONE_FILE_BYTES = 1_800_000_000
"""protobuf holds 2 GiB; the exporter writes weights beside larger models, and so must the quantizer."""
QUANTIZED_OPERATORS = ("MatMul", "Gather", "LSTM", "Attention", "EmbedLayerNormalization")
"""What `quantize_dynamic` takes weights from (a Gemm becomes a MatMul), but for convolutions: 1.31 runs a ConvInteger
of int8 weights, and releases of early 2025 do not (github.com/microsoft/onnxruntime/issues/23985)."""


def write_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write an exported program as ONNX. The exporter's stack traces, with paths of this machine, are left out."""
    with hushed():
        converted = torch.onnx.export(program, dynamo=True, verbose=False)
        assert converted is not None, "dynamo=True returns the program"
        graphs: list[Any] = [converted.model.graph, *converted.model.functions.values()]
        for graph in graphs:
            for node in graph.all_nodes():
                node.metadata_props.clear()
        converted.save(str(path))


def export(model: nn.Module, inputs: Sequence[Tensor], dynamic_shapes: Any) -> torch.export.ExportedProgram:
    """`torch.export` of a model in evaluation mode. Raises whatever it raises."""
    with hushed(), torch.no_grad():
        return torch.export.export(model, tuple(inputs), dynamic_shapes=dynamic_shapes)


def write_int8(source: Path, path: Path) -> int:
    """Write `source` with int8 weights (dynamic quantization of the activations); how many weights were quantized."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(source))
    # The exporter notes the shapes of weights; the quantizer transposes a Gemm's weight and trips over the old one.
    del model.graph.value_info[:]
    with hushed():
        quantize_dynamic(
            model,
            str(path),
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(QUANTIZED_OPERATORS),
            use_external_data_format=size_of(source) > ONE_FILE_BYTES,
        )
    graph = onnx.load(str(path), load_external_data=False).graph
    return sum(one.name.endswith("_quantized") for one in graph.initializer)


def parts_of(path: Path) -> list[Path]:
    """An ONNX file and those beside it that hold its weights."""
    return [path, *(beside for beside in [path.with_name(f"{path.name}.data")] if beside.exists())]


def size_of(path: Path) -> int:
    """Bytes of an ONNX file with its weights."""
    return sum(part.stat().st_size for part in parts_of(path))


class Session:
    """An ONNX file in onnxruntime, on the CPU."""

    def __init__(self, path: Path, *, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; its warnings are about shapes that the exporter noted wrongly
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.names: list[str] = [one.name for one in self._session.get_inputs()]
        self.shapes: list[Shape] = [list(one.shape) for one in self._session.get_inputs()]
        self.calls = 0

    def free_dimensions(self) -> list[str]:
        """`ids[0]`, `ids[1]`, ...: the dimensions of its inputs that may vary."""
        pairs = zip(self.names, self.shapes, strict=True)
        return [f"{name}[{i}]" for name, shape in pairs for i, size in enumerate(shape) if varies(size)]

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Its outputs for inputs by position."""
        self.calls += 1
        fed = {name: one.detach().cpu().numpy() for name, one in zip(self.names, inputs, strict=True)}
        return [torch.from_numpy(one.copy()) for one in self._session.run(None, fed)]


@contextmanager
def hushed() -> Iterator[None]:
    """Without the exporters' warnings and log lines: they speak of their own workings, not of the model."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
