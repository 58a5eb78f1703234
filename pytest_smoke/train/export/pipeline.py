"""The stages of the pipeline, in the child, while the trained model is there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec

from pytest_smoke.errors import ExportError, TaskError
from pytest_smoke.events import PIPELINE_STAGES, Event, ExportProgress, ExportStage
from pytest_smoke.train.crash import crash_of
from pytest_smoke.train.device import isolated_eval
from pytest_smoke.train.export import package
from pytest_smoke.train.export.errors import missing_libraries
from pytest_smoke.train.export.fresh_process import fresh_check
from pytest_smoke.train.export.inputs import LENGTH, dynamic_shapes_of, example_inputs_of, variants
from pytest_smoke.train.export.onnx_file import Session, export, size_of, write_int8, write_onnx
from pytest_smoke.train.export.onnx_forward import served
from pytest_smoke.train.export.outputs import difference, flat_outputs, on_cpu, tensors
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.task import Task, metrics_of

NEEDS = {
    "evaluate": (),
    "export": (),
    "quantize": ("evaluate", "export"),
    "package": ("evaluate", "export", "quantize"),
    "load": ("package",),
}
"""Stage: those it builds on."""


def check_needs(task: Task, model: nn.Module, device: torch.device) -> None:
    """What the pipeline cannot do without, asked before anything trains. Raises TaskError that names all of it."""
    libraries = missing_libraries()
    missing = [f"the library {name}" for name in libraries]
    missing += [
        f"the task's {name}()" for name in ("evaluate", "example_inputs") if not callable(getattr(task, name, None))
    ]
    if missing:
        command = ': pip install "pytest-verdict-smoke[export]"' if libraries else ""
        raise TaskError(f"smoke.pipeline needs {', '.join(missing)}{command}", key="smoke.pipeline")
    with isolated_eval(model, device):
        example_inputs_of(task)


def run_pipeline(
    plan: RunPlan,
    task: Task,
    model: nn.Module,
    send: Callable[[list[Event]], None],
    evaluate: Callable[[], dict[str, float] | None],
) -> None:
    """Run every stage whose needs are met, and report each as it ends. What breaks a stage is reported, not raised."""
    stages = Stages(plan, task, model, send, evaluate)
    sound: set[str] = set()
    for name in PIPELINE_STAGES:
        if name == "quantize" and not stages.quantizes:
            sound.add(name)
        elif sound >= set(NEEDS[name]):
            record = stages.run(name)
            send([record])
            if record.ok:
                sound.add(name)


class Stages:
    """What the stages share: the model's copy on the CPU, its example inputs and outputs, the metrics."""

    def __init__(
        self,
        plan: RunPlan,
        task: Task,
        model: nn.Module,
        send: Callable[[list[Event]], None],
        evaluate: Callable[[], dict[str, float] | None],
    ) -> None:
        assert plan.pipeline is not None
        self._plan, self._pipeline, self._task, self._model = plan, plan.pipeline, task, model
        self._send, self._trained_metrics = send, evaluate
        self._folder = self._pipeline.partial
        self._exported: tuple[nn.Module, tuple[Tensor, ...], list[Any], TreeSpec]
        self._metrics: dict[str, dict[str, float]] = {}
        self._groups: dict[str, Any] = {}

    @property
    def quantizes(self) -> bool:
        """Whether a quantized model is asked for."""
        return self._pipeline.quantize

    def run(self, name: str) -> ExportStage:
        """Run one stage. Random generators are put back after it, so that both evaluations draw the same samples."""
        stage: Callable[[], dict[str, Any]] = getattr(self, name)
        began = time.perf_counter()
        try:
            with isolated_eval(self._model, next(self._model.parameters()).device):
                figures = stage()
        except ExportError as broken:
            seconds = round(time.perf_counter() - began, 3)
            return ExportStage(name, False, seconds, broken.figures, reason=broken.reason, text=str(broken))
        except Exception as error:
            crash, seconds = crash_of(error, self._plan.root), round(time.perf_counter() - began, 3)
            text = next(line for line in crash.text.splitlines() if line.strip())
            return ExportStage(name, False, seconds, {}, crash.reason, text, crash.place, crash.traceback)
        return ExportStage(name, True, round(time.perf_counter() - began, 3), figures)

    def evaluate(self) -> dict[str, Any]:
        """The trained model's metrics. Figures: `metrics`."""
        self._doing("evaluate", "evaluate(model)")
        metrics = self._trained_metrics()
        assert metrics is not None, "check_needs has asked for evaluate()"
        self._metrics["model"] = _finite(metrics)
        return {"metrics": metrics}

    def export(self) -> dict[str, Any]:
        """ONNX against torch. Figures: `differences` by inputs, `tolerance`, `bytes`, `free` (dimensions that vary)."""
        self._doing("export", "torch.export")
        inputs, model = example_inputs_of(self._task), on_cpu(self._model)
        leaves, spec = flat_outputs(model, inputs)
        again = difference(tensors(leaves), tensors(flat_outputs(model, inputs)[0]))
        if again > self._pipeline.tolerance:
            text = f"the model gives other outputs for the same inputs in evaluation mode (difference {again:.2g})"
            raise ExportError("nondeterministic", f"{text}: it draws random numbers or keeps state between calls")
        program = export(model, inputs, dynamic_shapes_of(self._task, inputs))
        self._doing("export", "torch.onnx.export")
        self._folder.mkdir()
        write_onnx(program, self._folder / package.ONNX)
        self._doing("export", "onnxruntime")
        session = self._session(package.ONNX)
        _same_count(session, inputs)
        self._exported = (model, inputs, leaves, spec)
        self._groups = {"input": inputs, "output": tensors(leaves)}
        return self._compared(session)

    def _compared(self, session: Session) -> dict[str, Any]:
        model, inputs, *_ = self._exported
        differences = {}
        for name, tried in variants(inputs, session.shapes).items():
            try:
                expected = tensors(flat_outputs(model, tried)[0])
            except Exception:
                if not name.startswith(LENGTH):
                    raise
                continue  # a model may refuse a shorter input; then its file need not serve it
            differences[name] = difference(expected, session.run(tried))
        figures = {
            "tolerance": self._pipeline.tolerance,
            "bytes": size_of(self._folder / package.ONNX),
            "free": session.free_dimensions(),
            "differences": differences,
        }
        worst = max(differences, key=differences.__getitem__)
        if differences[worst] > self._pipeline.tolerance:
            apart = f"by {differences[worst]:.2g} times the largest one, at most {self._pipeline.tolerance:g}"
            raise ExportError("differs", f"on {worst} onnxruntime's outputs differ from the model's {apart}", figures)
        return figures

    def quantize(self) -> dict[str, Any]:
        """int8 weights. Figures: `bytes`, `float_bytes`, `weights`, `difference`, `metrics`, `float_metrics`."""
        model, inputs, leaves, spec = self._exported
        self._doing("quantize", "quantize_dynamic")
        weights = write_int8(self._folder / package.ONNX, self._folder / package.INT8)
        if not weights:
            raise ExportError(
                "nothing", "no weight was quantized: the model has no matrix product, lookup or LSTM to quantize"
            )
        session = self._session(package.INT8)
        outputs = session.run(inputs)
        self._groups["int8"] = outputs
        self._doing("quantize", "evaluate(model) with int8 weights")
        session.calls = 0
        with served(model, session, leaves, spec), torch.no_grad():
            metrics = metrics_of(self._task.evaluate(model))  # type: ignore[attr-defined]  # optional; `evaluate` passed
        if not session.calls:
            raise ExportError("task", "evaluate(model) never calls model(...): what quantizing costs cannot be seen")
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
        """The folder, written beside and renamed. Figures: `bytes`, `files`."""
        self._doing("package", "weights, examples, manifest")
        folder = self._folder
        package.write_weights(self._exported[0], folder)
        package.write_examples(folder, **self._groups)
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
        """`python -m pytest_smoke package` on the folder, in a fresh process. Figures: `parts`."""
        self._doing("load", "a fresh process")
        wanted = [package.WEIGHTS, package.ONNX, *([package.INT8] if self.quantizes else [])]
        doing = partial(self._doing, "load", "a fresh process")
        return {"parts": fresh_check(self._pipeline.folder, self._plan.root, wanted, doing)}

    def _session(self, name: str) -> Session:
        return Session(self._folder / name, threads=self._plan.cpu_threads)

    def _doing(self, stage: str, doing: str) -> None:
        self._send([ExportProgress(stage, doing)])


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    wrong = [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
    if wrong or not metrics:
        raise ExportError(
            "non-finite" if wrong else "task", "evaluate(model): " + (", ".join(wrong) or "it names no metric")
        )
    return metrics


def _same_count(session: Session, inputs: tuple[Any, ...]) -> None:
    if len(session.names) != len(inputs):
        names = ", ".join(session.names) or "none"
        raise ExportError(
            "inputs", f"the ONNX file takes {len(session.names)} inputs ({names}), example_inputs() gives {len(inputs)}"
        )
