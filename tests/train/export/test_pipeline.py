"""The stages in order, each with what it builds on, in this process."""

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
    """A task whose evaluate is chosen."""

    def __init__(self, evaluate: Callable[[nn.Module], Any] | None = None, model: nn.Module | None = None) -> None:
        if evaluate is not None:
            self.evaluate = evaluate
        self.made = model or nn.Linear(6, 3)

    def model(self) -> nn.Module:
        return self.made

    def example_inputs(self) -> tuple[Tensor, ...]:
        return (torch.linspace(-1, 1, 12).reshape(2, 6),)


def run(
    task: Any, folder: Path, *, quantize: bool = True, recipe: dict[str, Any] | None = None
) -> tuple[dict[str, ExportStage], list[Event]]:
    """The stages that ran, by name, and all records."""
    records: list[Event] = []
    pipeline = PipelinePlan(folder=str(folder / "package"), recipe=recipe or {}, quantize=quantize, tolerance=1e-4)
    run_pipeline(make_plan(pipeline=pipeline), task, task.model(), records.extend, lambda: task.evaluate(task.model()))
    return {record.name: record for record in records if isinstance(record, ExportStage)}, records


def mean(model: nn.Module) -> dict[str, float]:
    """A metric that moves with the model."""
    return {"mean": model(torch.linspace(-1, 1, 30).reshape(5, 6)).abs().mean().item()}


def test_each_stage_says_what_it_does_before_it_does_it(tmp_path: Path) -> None:
    """So that neither a long one is taken for a hang, nor a deadly one stays unnamed."""
    _, records = run(Points(mean), tmp_path)
    begun: set[str] = set()
    for record in records:
        if isinstance(record, ExportProgress):
            begun.add(record.stage)
        assert not isinstance(record, ExportStage) or record.name in begun


def test_both_evaluations_draw_the_same_random_numbers(tmp_path: Path) -> None:
    """Or the cost of int8 would be a matter of which samples were drawn."""
    stages, _ = run(Points(lambda model: {**mean(model), "drawn": torch.rand(()).item()}), tmp_path)
    figures = stages["quantize"].figures
    assert figures["metrics"]["drawn"] == figures["float_metrics"]["drawn"]
    assert figures["metrics"]["mean"] != figures["float_metrics"]["mean"], "the file was scored, not the model"


@pytest.mark.parametrize(
    ("recipe", "fragments"),
    [
        ({}, ["exit status 2", "is no package that a pipeline wrote: KeyError: 'recipe'"]),
        (
            {"recipe": {"task": "leaves_at_once:Task", "args": {}, "smoke": {"args": {}, "cpu_threads": 1}}},
            ["did not get to model.onnx, model.safetensors; its last line: farewell"],
        ),
    ],
)
def test_a_fresh_process_that_checks_too_little_does_not_pass(
    recipe: dict[str, Any], fragments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though what it did check was sound. Nothing is quantized here, and packaged all the same."""
    (tmp_path / "leaves_at_once.py").write_text("print('farewell')\nraise SystemExit(1)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    stages, _ = run(Points(mean), tmp_path, quantize=False, recipe=recipe)
    assert list(stages) == ["evaluate", "export", "package", "load"]
    assert "model.int8.onnx" not in stages["package"].figures["files"]
    assert not stages["load"].ok
    missing = [fragment for fragment in fragments if fragment not in stages["load"].text]
    assert not missing, stages["load"].text


def test_what_a_pipeline_needs_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything trains, all of it at once; and the random numbers that example inputs draw are put back."""
    scored, bare = Points(mean), Points()
    scored.example_inputs = lambda: (torch.rand(2, 6),)  # type: ignore[method-assign]  # as some tasks have it
    before = torch.get_rng_state()
    needs(scored)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(TaskError, match=r"smoke\.pipeline needs the task's evaluate\(\)$") as raised:
        needs(bare)
    assert raised.value.key == "smoke.pipeline"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    said = (
        r"the library onnxruntime, the task's evaluate\(\), the task's example_inputs\(\): pip install .pytest-verdict"
    )
    with pytest.raises(TaskError, match=said):
        needs(object())
    monkeypatch.undo()
    scored.example_inputs = lambda: torch.rand(2, 6)  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(TaskError, match=r"example_inputs\(\) returned \(Tensor\): it must be a tuple"):
        needs(scored)


def needs(task: Any) -> None:
    check_needs(task, nn.Identity(), torch.device("cpu"))


def raises(model: nn.Module) -> Any:
    raise KeyError("val_f1")


@pytest.mark.parametrize(
    ("task", "stage", "fragment"),
    [
        (Points(raises), "evaluate", "KeyError: 'val_f1'"),
        (Points(lambda model: {}), "evaluate", "it names no metric"),
        (Points(lambda model: {"val_loss": float("nan")}), "evaluate", "val_loss is nan"),
        (Points(lambda model: {"norm": model.weight.norm().item()}), "quantize", "evaluate(model) never calls model("),
        (
            Points(mean, nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3))),
            "quantize",
            "no weight was quantized",
        ),
    ],
)
def test_a_broken_stage_says_why_and_stops_only_what_builds_on_it(
    task: Points, stage: str, fragment: str, tmp_path: Path
) -> None:
    """A model is exported though it cannot be evaluated."""
    stages, _ = run(task, tmp_path)
    assert list(stages) == ["evaluate", "export", *(["quantize"] if stage == "quantize" else [])]
    assert [name for name, record in stages.items() if not record.ok] == [stage]
    assert fragment in stages[stage].text
    assert ("test_pipeline.py:" in stages[stage].place) == ("KeyError" in fragment)
