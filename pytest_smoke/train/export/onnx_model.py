"""Export a model to an ONNX file, quantize it, run it, and let the task's `evaluate` score it."""

from __future__ import annotations

import inspect
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn

from pytest_smoke.errors import TaskError
from pytest_smoke.text import count
from pytest_smoke.train.export.model_io import Shape, is_dynamic

ONE_FILE_BYTES = 1_800_000_000
"""Size from which weights go to a second file: protobuf holds 2 GiB, and the exporter does the same."""
QUANTIZED_OPERATORS = ("MatMul", "Gather", "LSTM", "Attention", "EmbedLayerNormalization")
"""Operators whose weights `quantize_dynamic` quantizes (a Gemm becomes a MatMul). Not convolutions: onnxruntime 1.31
runs a ConvInteger of int8 weights, releases of early 2025 do not (github.com/microsoft/onnxruntime/issues/23985)."""


def export(model: nn.Module, inputs: Sequence[Tensor], dynamic_shapes: Any) -> torch.export.ExportedProgram:
    """Return the `torch.export` of a model in evaluation mode. Raises whatever torch raises."""
    with _exporters_silenced(), torch.no_grad():
        return torch.export.export(model, tuple(inputs), dynamic_shapes=dynamic_shapes)


def write_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write an exported program as ONNX, without the exporter's stack traces, which hold paths of this machine."""
    with _exporters_silenced():
        converted = torch.onnx.export(program, dynamo=True, verbose=False)
        assert converted is not None, "dynamo=True returns the program"
        graphs: list[Any] = [converted.model.graph, *converted.model.functions.values()]
        for graph in graphs:
            for node in graph.all_nodes():
                node.metadata_props.clear()
        converted.save(str(path))


def write_int8(source: Path, path: Path) -> int:
    """Write `source` with int8 weights and dynamically quantized activations; return the number of such weights."""
    _disable_telemetry()
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(source))
    # The exporter records the shapes of weights. The quantizer transposes the weight of a Gemm and then fails on the
    # recorded shape.
    del model.graph.value_info[:]
    with _exporters_silenced():
        quantize_dynamic(
            model,
            str(path),
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(QUANTIZED_OPERATORS),
            use_external_data_format=size_of(source) > ONE_FILE_BYTES,
        )
    graph = onnx.load(str(path), load_external_data=False).graph
    return sum(initializer.name.endswith("_quantized") for initializer in graph.initializer)


def _disable_telemetry() -> None:
    """Keep onnxruntime, before it is imported, from reporting its use and from leaving a file in the temporary folder.

    Releases from 1.32 on do so also on Linux, unless the user has set this variable.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def size_of(path: Path) -> int:
    """Return the bytes of an ONNX file, with the file next to it that holds the weights of a large model."""
    weights = path.with_name(f"{path.name}.data")
    return path.stat().st_size + (weights.stat().st_size if weights.exists() else 0)


class Session:
    """An ONNX file in onnxruntime, on the CPU."""

    def __init__(self, path: Path, *, threads: int) -> None:
        _disable_telemetry()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only: its warnings concern shapes that the exporter recorded wrongly
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.names: list[str] = [one.name for one in self._session.get_inputs()]
        """Names of the inputs."""
        self.shapes: list[Shape] = [list(one.shape) for one in self._session.get_inputs()]
        """Shapes of the inputs."""
        self.calls = 0
        """Number of calls of `run`."""

    def dynamic_dimensions(self) -> list[str]:
        """Return the dynamic dimensions of the inputs: `ids[0]`, `ids[1]`, ..."""
        pairs = zip(self.names, self.shapes, strict=True)
        return [f"{name}[{i}]" for name, shape in pairs for i, size in enumerate(shape) if is_dynamic(size)]

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs for inputs by position."""
        self.calls += 1
        arrays = {name: one.detach().cpu().numpy() for name, one in zip(self.names, inputs, strict=True)}
        return [torch.from_numpy(one.copy()) for one in self._session.run(None, arrays)]


@contextmanager
def onnx_forward(model: nn.Module, session: Session, leaves: Sequence[Any], spec: pytree.TreeSpec) -> Iterator[None]:
    """Let `session` compute `model(...)`; everything else (`model.crf.decode`, its parameters) stays the model's own.

    `leaves` and `spec` are the model's flat outputs: an output that is None there is None here. Outputs are on the
    device of the inputs. Raises TaskError for inputs other than the exported ones.
    """
    signature = inspect.signature(model.forward)
    before = vars(model).get("forward")

    def forward(*args: Any, **kwargs: Any) -> Any:
        inputs = _by_position(signature, args, kwargs, len(session.names))
        outputs = iter(session.run(inputs))
        device = inputs[0].device
        filled = [next(outputs).to(device) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        return pytree.tree_unflatten(filled, spec)

    model.forward = forward
    try:
        yield
    finally:
        del model.forward
        if before is not None:
            model.forward = before


def _by_position(signature: inspect.Signature, args: Any, kwargs: Any, exported: int) -> list[Tensor]:
    bound = signature.bind(*args, **kwargs)
    given: list[tuple[str, Any]] = []
    for name, value in bound.arguments.items():
        is_variadic = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
        given += [(name, one) for one in value] if is_variadic else [(name, value)]
    given = [(name, value) for name, value in given if value is not None]
    if len(given) != exported or not all(isinstance(value, Tensor) for _, value in given):
        names = ", ".join(name for name, _ in given)
        raise TaskError(
            f"evaluate(model) called the model with {count(len(given), 'input')} ({names}), but it was exported with "
            f"{count(exported, 'tensor')} from example_inputs(): they must be the same, in the same order"
        )
    return [value for _, value in given]


@contextmanager
def _exporters_silenced() -> Iterator[None]:
    """Suppress the exporters' warnings and log lines, which concern their own internals and not the model."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
