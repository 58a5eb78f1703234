"""The stages of the export pipeline. They run in the training process, while it holds the trained model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec

from pytest_smoke.errors import ExportError, TaskError
from pytest_smoke.events import PIPELINE_STAGES, ExportProgress, ExportStage
from pytest_smoke.task import Task
from pytest_smoke.text import count, listed, number, percent
from pytest_smoke.train.channel import Send
from pytest_smoke.train.crash import crash_of
from pytest_smoke.train.device import isolated_eval
from pytest_smoke.train.export import package
from pytest_smoke.train.export.model_io import (
    OTHER_LENGTH,
    copy_to_cpu,
    difference,
    dynamic_shapes_of,
    example_inputs_of,
    flat_outputs,
    tensors,
    variants,
)
from pytest_smoke.train.export.onnx_model import Session, export, onnx_forward, size_of, write_int8, write_onnx
from pytest_smoke.train.export.verify import check_in_fresh_process
from pytest_smoke.train.hooks import hook_of
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.task import metrics_of

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
"""Optional libraries that the pipeline needs."""
NEEDS = {
    "evaluate": (),
    "export": (),
    "quantize": ("evaluate", "export"),
    "package": ("evaluate", "export", "quantize"),
    "load": ("package",),
}
"""The stages that each stage needs."""

Evaluate = Callable[[], dict[str, float] | None]


def missing_libraries() -> list[str]:
    """Return the libraries of the pipeline that are not installed."""
    return [name for name in LIBRARIES if find_spec(name) is None]


def check_needs(task: Task, model: nn.Module, device: torch.device) -> None:
    """Check before training what the pipeline needs. Raises TaskError that names everything that is missing."""
    libraries = missing_libraries()
    missing = [f"the library {name}" for name in libraries]
    missing += [f"the task's {name}()" for name in ("evaluate", "example_inputs") if not callable(hook_of(task, name))]
    if missing:
        command = '; run pip install "pytest-verdict-smoke[export]"' if libraries else ""
        raise TaskError(f"smoke.pipeline needs {listed(missing)}{command}", key="smoke.pipeline")
    with isolated_eval(model, device):
        example_inputs_of(task)


def run_pipeline(plan: RunPlan, task: Task, model: nn.Module, send: Send, evaluate: Evaluate) -> None:
    """Run every stage whose needs are met, and report each as it ends. A failure of a stage is reported, not raised.

    `evaluate` returns the metrics of the trained model.
    """
    stages = Stages(plan, task, model, send, evaluate)
    succeeded: set[str] = set()
    for name in PIPELINE_STAGES:
        if name == "quantize" and not stages.quantizes:
            succeeded.add(name)
        elif succeeded >= set(NEEDS[name]):
            event = stages.run(name)
            send([event])
            if event.ok:
                succeeded.add(name)


class Stages:
    """The stages, and what they share: the model's copy on the CPU, its example inputs and outputs, the metrics."""

    def __init__(self, plan: RunPlan, task: Task, model: nn.Module, send: Send, evaluate: Evaluate) -> None:
        assert plan.pipeline is not None
        self._plan, self._pipeline, self._task, self._model = plan, plan.pipeline, task, model
        self._send, self._trained_metrics = send, evaluate
        self._folder = self._pipeline.partial
        self._exported: tuple[nn.Module, tuple[Tensor, ...], list[Any], TreeSpec]
        """The copy, its example inputs, and its flat outputs; set by the stage `export`."""
        self._metrics: dict[str, dict[str, float]] = {}
        """Metrics of the `model` and of `int8`."""
        self._examples: dict[str, Any] = {}
        """Tensors for the package: `input`, `output`, `int8`."""

    @property
    def quantizes(self) -> bool:
        """Whether a model with int8 weights is asked for."""
        return self._pipeline.quantize

    def run(self, name: str) -> ExportStage:
        """Run one stage. Generators are restored after it, so that both evaluations draw the same samples."""
        stage: Callable[[], dict[str, Any]] = getattr(self, name)
        started = time.perf_counter()
        try:
            with isolated_eval(self._model, next(self._model.parameters()).device):
                figures = stage()
        except ExportError as error:
            seconds = round(time.perf_counter() - started, 3)
            return ExportStage(name, False, seconds, error.figures, reason=error.reason, text=str(error))
        except Exception as error:
            crash, seconds = crash_of(error, self._plan.root), round(time.perf_counter() - started, 3)
            text = next(line for line in crash.text.splitlines() if line.strip())
            return ExportStage(name, False, seconds, {}, crash.reason, text, crash.place, crash.traceback)
        return ExportStage(name, True, round(time.perf_counter() - started, 3), figures)

    def evaluate(self) -> dict[str, Any]:
        """Evaluate the trained model. Figures: `metrics`."""
        self._report("evaluate", "evaluate(model)")
        metrics = self._trained_metrics()
        assert metrics is not None, "check_needs has required evaluate()"
        self._metrics["model"] = _finite(metrics)
        return {"metrics": metrics}

    def export(self) -> dict[str, Any]:
        """Export to ONNX and compare with torch.

        Figures: `differences` by inputs, `tolerance`, `bytes`, `free` (dynamic dimensions).
        """
        self._report("export", "torch.export")
        inputs, model = example_inputs_of(self._task), copy_to_cpu(self._model)
        leaves, spec = flat_outputs(model, inputs)
        repeated = difference(tensors(leaves), tensors(flat_outputs(model, inputs)[0]))
        if repeated > self._pipeline.tolerance:
            raise ExportError(
                "nondeterministic",
                f"two calls with the same inputs in evaluation mode differ by {percent(repeated)} of the largest "
                "output: the model draws random numbers or keeps state between calls",
            )
        program = export(model, inputs, dynamic_shapes_of(self._task, inputs))
        self._report("export", "torch.onnx.export")
        self._folder.mkdir()
        write_onnx(program, self._folder / package.ONNX)
        self._report("export", "onnxruntime")
        session = self._session(package.ONNX)
        _check_input_count(session, inputs)
        self._exported = (model, inputs, leaves, spec)
        self._examples = {"input": inputs, "output": tensors(leaves)}
        return self._compared(session)

    def _compared(self, session: Session) -> dict[str, Any]:
        model, example_inputs, *_ = self._exported
        differences = {}
        for name, inputs in variants(example_inputs, session.shapes).items():
            try:
                expected = tensors(flat_outputs(model, inputs)[0])
            except Exception:
                if not name.startswith(OTHER_LENGTH):
                    raise
                continue  # a model may reject a shorter input, and then its file need not accept it
            differences[name] = difference(expected, session.run(inputs))
        figures = {
            "tolerance": self._pipeline.tolerance,
            "bytes": size_of(self._folder / package.ONNX),
            "free": session.dynamic_dimensions(),
            "differences": differences,
        }
        worst = max(differences, key=differences.__getitem__)
        if differences[worst] > self._pipeline.tolerance:
            allowed = f"{percent(self._pipeline.tolerance)} is allowed"
            by = f"by {percent(differences[worst])} of the largest output; {allowed}"
            raise ExportError(
                "outputs-differ", f"on {worst} onnxruntime's outputs differ from the model's {by}", figures
            )
        return figures

    def quantize(self) -> dict[str, Any]:
        """Quantize the weights to int8 and evaluate.

        Figures: `bytes`, `float_bytes`, `weights`, `difference`, `metrics`, `float_metrics`.
        """
        model, inputs, leaves, spec = self._exported
        self._report("quantize", "quantize_dynamic")
        weights = write_int8(self._folder / package.ONNX, self._folder / package.INT8)
        if not weights:
            raise ExportError(
                "nothing-quantized", "no weight was quantized: the model has no matrix product, embedding or LSTM"
            )
        session = self._session(package.INT8)
        outputs = session.run(inputs)
        self._examples["int8"] = outputs
        self._report("quantize", "evaluate(model) with int8 weights")
        session.calls = 0
        with onnx_forward(model, session, leaves, spec), torch.no_grad():
            metrics = metrics_of(self._task.evaluate(model))  # type: ignore[attr-defined]  # optional; `evaluate` passed
        if not session.calls:
            raise ExportError(
                "invalid-task", "evaluate(model) never calls model(...): the cost of quantization cannot be measured"
            )
        self._metrics["int8"] = _finite(metrics)
        return {
            "bytes": size_of(self._folder / package.INT8),
            "float_bytes": size_of(self._folder / package.ONNX),
            "weights": weights,
            "difference": difference(tensors(leaves), outputs),
            "metrics": metrics,
            "float_metrics": self._metrics["model"],
        }

    def package(self) -> dict[str, Any]:
        """Write the package under a temporary name and rename it. Figures: `bytes`, `files`."""
        self._report("package", "weights, examples, manifest")
        folder = self._folder
        package.write_weights(self._exported[0], folder)
        package.write_examples(folder, **self._examples)
        package.write_json(folder / package.RECIPE, self._pipeline.recipe)
        package.write_json(folder / package.METRICS, self._metrics)
        labels = package.labels_of(self._task)
        if labels is not None:
            package.write_json(folder / package.LABELS, labels)
        size = package.write_manifest(folder, tolerance=self._pipeline.tolerance)
        files = sorted(path.name for path in folder.iterdir())
        folder.rename(self._pipeline.folder)
        return {"bytes": size, "files": files}

    def load(self) -> dict[str, Any]:
        """Check the package in a fresh process. Figures: `parts`."""
        report = partial(self._report, "load", "a fresh process")
        report()
        wanted = [package.WEIGHTS, package.ONNX, *([package.INT8] if self.quantizes else [])]
        plan = self._plan
        parts = check_in_fresh_process(self._pipeline.folder, plan.root, wanted, report, allowed=plan.allowed)
        return {"parts": parts}

    def _session(self, name: str) -> Session:
        return Session(self._folder / name, threads=self._plan.cpu_threads)

    def _report(self, stage: str, doing: str) -> None:
        self._send([ExportProgress(stage, doing)])


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    if not metrics:
        raise ExportError("invalid-task", "evaluate(model) returned no metric")
    wrong = [f"{name} is {number(value)}" for name, value in metrics.items() if not math.isfinite(value)]
    if wrong:
        raise ExportError("non-finite", f"evaluate(model) returned a metric that is not finite: {listed(wrong)}")
    return metrics


def _check_input_count(session: Session, inputs: tuple[Any, ...]) -> None:
    if len(session.names) != len(inputs):
        names = ", ".join(session.names) or "none"
        raise ExportError(
            "input-count",
            f"the ONNX file has {count(len(session.names), 'input')} ({names}), but example_inputs() returns "
            f"{len(inputs)}",
        )
