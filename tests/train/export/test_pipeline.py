"""The export pipeline: its stages, what each needs, and why one fails."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_smoke.errors import TaskError
from pytest_smoke.events import Event, ExportProgress, ExportStage
from pytest_smoke.train.export.pipeline import check_needs, run_pipeline
from pytest_smoke.train.plan import PipelinePlan
from tests.train.conftest import make_plan


class Points:
    """A task with a given `evaluate` and model."""

    def __init__(self, evaluate: Callable[[nn.Module], Any] | None = None, model: nn.Module | None = None) -> None:
        if evaluate is not None:
            self.evaluate = evaluate
        self.given_model = model or nn.Linear(6, 3)

    def model(self) -> nn.Module:
        return self.given_model

    def example_inputs(self) -> tuple[Tensor, ...]:
        return (torch.linspace(-1, 1, 12).reshape(2, 6),)


def run(
    task: Any, folder: Path, *, quantize: bool = True, recipe: dict[str, Any] | None = None
) -> tuple[dict[str, ExportStage], list[Event]]:
    """Run the pipeline; return the stages that ran, by name, and all events."""
    events: list[Event] = []
    pipeline = PipelinePlan(folder=str(folder / "package"), recipe=recipe or {}, quantize=quantize, tolerance=1e-4)
    plan = make_plan(pipeline=pipeline, root=str(folder))
    run_pipeline(plan, task, task.model(), events.extend, lambda: task.evaluate(task.model()))
    return {event.name: event for event in events if isinstance(event, ExportStage)}, events


def mean(model: nn.Module) -> dict[str, float]:
    """Return a metric that depends on the weights."""
    return {"mean": model(torch.linspace(-1, 1, 30).reshape(5, 6)).abs().mean().item()}


def test_every_stage_reports_progress_before_its_result(tmp_path: Path) -> None:
    """A long stage is not taken for a hang, and one that kills the process is named."""
    _, events = run(Points(mean), tmp_path)
    started: set[str] = set()
    for event in events:
        if isinstance(event, ExportProgress):
            started.add(event.stage)
        assert not isinstance(event, ExportStage) or event.name in started


def test_both_evaluations_draw_the_same_random_numbers(tmp_path: Path) -> None:
    """Else the cost of int8 would depend on which samples were drawn."""
    stages, _ = run(Points(lambda model: {**mean(model), "drawn": torch.rand(()).item()}), tmp_path)
    figures = stages["quantize"].figures
    assert figures["metrics"]["drawn"] == figures["float_metrics"]["drawn"]
    assert figures["metrics"]["mean"] != figures["float_metrics"]["mean"], "the file was scored, not the model"


@pytest.mark.parametrize(
    ("recipe", "fragments"),
    [
        ({}, ["exit status 2", "was not written by smoke.pipeline: KeyError: 'recipe'"]),
        (
            {"recipe": {"task": "leaves_at_once:Task", "args": {}, "smoke": {"args": {}, "cpu_threads": 1}}},
            ["did not check model.onnx and model.safetensors; its last line: farewell"],
        ),
    ],
)
def test_a_fresh_process_that_does_not_check_every_part_fails(
    recipe: dict[str, Any], fragments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the parts that it did check passed. A package without a quantized model is written, too."""
    (tmp_path / "leaves_at_once.py").write_text("import os\nprint('farewell', flush=True)\nos._exit(1)\nTask = None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    stages, _ = run(Points(mean), tmp_path, quantize=False, recipe=recipe)
    assert list(stages) == ["evaluate", "export", "package", "load"]
    assert "model.int8.onnx" not in stages["package"].figures["files"]
    assert not stages["load"].ok
    missing = [fragment for fragment in fragments if fragment not in stages["load"].text]
    assert not missing, stages["load"].text


def test_everything_that_a_pipeline_lacks_is_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generators are restored after the example inputs were made."""
    complete, bare = Points(mean), Points()
    complete.example_inputs = lambda: (torch.rand(2, 6),)  # type: ignore[method-assign]  # as some tasks have it
    before = torch.get_rng_state()
    needs(complete)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(TaskError, match=r"smoke\.pipeline needs the task's evaluate\(\)$") as raised:
        needs(bare)
    assert raised.value.key == "smoke.pipeline"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    message = (
        r"the library onnxruntime, the task's evaluate\(\) and the task's example_inputs\(\); "
        r"run pip install .pytest-verdict"
    )
    with pytest.raises(TaskError, match=message):
        needs(object())
    monkeypatch.undo()
    complete.example_inputs = lambda: torch.rand(2, 6)  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(TaskError, match=r"example_inputs\(\) returned \(Tensor\): it must return a tuple"):
        needs(complete)


def needs(task: Any) -> None:
    check_needs(task, nn.Identity(), torch.device("cpu"))


def raises(model: nn.Module) -> Any:
    raise KeyError("val_f1")


@pytest.mark.parametrize(
    ("task", "stage", "reason", "fragment"),
    [
        (Points(raises), "evaluate", "exception", "KeyError: 'val_f1'"),
        (Points(lambda model: {}), "evaluate", "invalid-task", "evaluate(model) returned no metric"),
        (Points(lambda model: {"val_loss": float("nan")}), "evaluate", "non-finite", "val_loss is NaN"),
        (
            Points(lambda model: {"norm": model.weight.norm().item()}),
            "quantize",
            "invalid-task",
            "evaluate(model) never calls model(",
        ),
        (
            Points(mean, nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3))),
            "quantize",
            "nothing-quantized",
            "no weight was quantized",
        ),
    ],
)
def test_a_failed_stage_says_why_and_stops_only_the_stages_that_need_it(
    task: Points, stage: str, reason: str, fragment: str, tmp_path: Path
) -> None:
    """A model that cannot be evaluated is exported, for example."""
    stages, _ = run(task, tmp_path)
    assert list(stages) == ["evaluate", "export", *(["quantize"] if stage == "quantize" else [])]
    assert [name for name, event in stages.items() if not event.ok] == [stage]
    assert stages[stage].reason == reason
    assert fragment in stages[stage].text
    assert ("test_pipeline.py:" in stages[stage].place) == ("KeyError" in fragment)
