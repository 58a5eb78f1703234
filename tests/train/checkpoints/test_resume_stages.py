"""Checkpoints of a run with stages: each is entered again before its state is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_smoke.events import (
    BatchDigest,
    Command,
    Continue,
    EndAfterStage,
    Ended,
    Event,
    Resumed,
    Saved,
    SourceCounts,
    StageEnded,
    Started,
    Step,
    Updates,
)
from pytest_smoke.train.checkpoints import manager as keeper
from pytest_smoke.train.checkpoints.layout import Check, Saving
from pytest_smoke.train.gradient_probe import probe
from pytest_smoke.train.loop import Loop
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.plan import RunPlan
from tests.train.checkpoints.test_resume import Stateful
from tests.train.conftest import make_plan
from tests.train.test_stages import Encoded
from tests.train.test_stages import Line as StageLine


class Cut(Exception):
    """The process is lost."""


class Line(StageLine):
    """A channel that breaks when a step comes in."""

    def __init__(self, *words: Command, cut_at: int | None = None) -> None:
        super().__init__(*words)
        self.cut_at = cut_at

    def send(self, records: list[Event]) -> None:
        super().send(records)
        if any(isinstance(record, Step) and record.step == self.cut_at for record in records):
            raise Cut

    def of(self, kind: Any) -> list[Any]:
        return [record for record in self.records if isinstance(record, kind)]


class Phased(Encoded):
    """The order of what is drawn, and its scale, hang on what was entered; the data are drawn by one stream."""

    def on_stage_start(self, model: nn.Module, stage: str, phase: str | None) -> None:
        adapter = dict(model.named_children()).get("adapter")
        super().on_stage_start(model, stage, phase)
        if adapter is not None:  # the second phase goes on with that of the first
            model["adapter"] = adapter

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Any:
        for number, batch in enumerate(super().batches(batch_size, seed=seed, rank=rank, world_size=world_size)):
            yield batch * len(self.entered) + number % 3

    def sources(self, batch: Tensor) -> dict[str, int]:
        right = int((batch[:, 0] > 0).sum())
        return {"right": right, "left": len(batch) - right}

    def losses(self, model: nn.Module, batch: Tensor) -> Any:
        return super().losses(model, nn.functional.dropout(batch, 0.1, model.training))


class Knowing(Phased):
    """Its loaders know their place."""

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Any:
        return Floats(seed + rank)


class Floats(Stateful):
    def __iter__(self) -> Any:
        return (batch.float() for batch in super().__iter__())


def stage(name: str, first_step: int, steps: int, **changes: Any) -> Stage:
    defaults = {"max_steps": 100, "learning_rate": 0.05, "warmup_steps": 3, "loss_weights": {}}
    return Stage(name=name, first_step=first_step, steps=steps, **{**defaults, **changes})


STAGES = (
    stage("A", 0, 20, train=("encoder.*",), phases=(("text", 0), ("latent", 9))),
    stage("B", 20, 30, train=("adapter.*", "head.*"), phases=(("one", 20), ("two", 37))),
)


def plan_of(**changes: Any) -> RunPlan:
    return make_plan(stages=STAGES, run_steps=50, max_steps=50, evaluate_every_steps=7, **changes)


def go(plan: RunPlan, task: Any, *words: Command, cut_at: int | None = None) -> Line:
    torch.manual_seed(plan.seed)
    line = Line(*words, cut_at=cut_at)
    Loop(plan, task, torch.device("cpu"), line).run()
    return line


def lasting(line: Line) -> list[Event]:
    timed = Started | Ended | Saved | Resumed | StageEnded
    return [record for record in line.records if not isinstance(record, timed)]


@pytest.mark.parametrize("task", [Phased, Knowing])
@pytest.mark.parametrize("step", [7, 9, 20, 23, 37, 41])
def test_a_second_process_makes_the_same_steps_of_a_stage(tmp_path: Path, task: Any, step: int) -> None:
    """Within a stage or phase and where one begins, with dropout, warm-up and momentum: bit for bit."""
    check = Check(folder=str(tmp_path), step=step, steps=6)
    first = go(plan_of(saving=Saving(check=check)), task(), Continue())
    second = go(plan_of(saving=Saving(check=replace(check, again=True))), task())
    assert second.of(Step) == first.of(Step)[step : step + 6]
    assert second.of(BatchDigest) == first.of(BatchDigest)
    assert second.of(Resumed) == [Resumed(step)]
    assert second.of(StageEnded) == []


@pytest.fixture
def _at_every_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "ROLLING_SHARE", 1e9)
    monkeypatch.setattr("pytest_smoke.train.loop.CHUNK_SECONDS", 0.0)


@pytest.mark.usefixtures("_at_every_chance")
@pytest.mark.parametrize("task", [Phased, Knowing])
@pytest.mark.parametrize("cuts", [[12], [20], [25], [37], [14, 30, 45]])
def test_however_often_it_is_cut_the_stages_are_told_as_those_of_one_run(
    tmp_path: Path, task: Any, cuts: list[int]
) -> None:
    """Steps, probes, metrics, the drawn mix, what moved and what stayed frozen; and each end of a stage once."""
    whole = go(plan_of(), task(), Continue())
    plan = plan_of(saving=Saving(folder=str(tmp_path), rolling=True))
    for cut in cuts:
        with pytest.raises(Cut):
            go(plan, task(), Continue(), cut_at=cut)
    line = go(plan, task(), Continue())
    assert lasting(line) == lasting(whole)
    assert line.of(SourceCounts)[-1].samples == 50 * 8
    assert [one.stage for one in line.of(StageEnded)] == ["A", "B"]
    assert [updates.moved for updates in line.of(Updates)] == [(), ()]
    assert len(line.of(Resumed)) == len(cuts)
    assert [path.name for path in tmp_path.iterdir()] == ["trained"]


@pytest.mark.usefixtures("_at_every_chance")
def test_a_run_cut_after_the_step_of_the_check_can_still_be_checked(tmp_path: Path) -> None:
    """The saved state and the sums of the batches outlive the process, and the second one makes the same steps."""
    check = Check(folder=str(tmp_path), step=23, steps=6)
    plan = plan_of(saving=Saving(folder=str(tmp_path), rolling=True, check=check))
    with pytest.raises(Cut):
        go(plan, Phased(), Continue(), cut_at=40)
    first = go(plan, Phased(), Continue())
    assert [(one.kind, one.step) for one in first.of(Saved)] == [("checked", 23), ("trained", 50)]
    assert [one.step for one in first.of(BatchDigest)] == list(range(23, 29))
    second = go(plan_of(saving=Saving(check=replace(check, again=True))), Phased())
    assert second.of(Step) == first.of(Step)[23:29]
    assert second.of(BatchDigest) == first.of(BatchDigest)


@pytest.mark.usefixtures("_at_every_chance")
def test_a_stage_whose_criteria_are_other_ones_now_ends_the_resumed_run(tmp_path: Path) -> None:
    """The judge is asked again at the end of each stage, and obeyed; nothing is left to go on from."""
    plan = plan_of(saving=Saving(folder=str(tmp_path), rolling=True))
    with pytest.raises(Cut):
        go(plan, Phased(), Continue(), cut_at=30)
    line = go(plan, Phased(), EndAfterStage())
    assert [record.step for record in line.of(Step)] == list(range(20))
    assert [one.stage for one in line.of(StageEnded)] == ["A"]
    assert isinstance(line.records[-1], Ended)
    assert list(tmp_path.iterdir()) == []


def test_a_halted_run_leaves_the_weights_of_the_stage_that_held_it_back(tmp_path: Path) -> None:
    """In the structure of that stage, which the checkpoint names."""
    line = go(plan_of(saving=Saving(folder=str(tmp_path))), Phased(), EndAfterStage())
    assert [(one.kind, one.step) for one in line.of(Saved)] == [("trained", 20)]
    assert '"stage": "A"' in (tmp_path / "trained" / "checkpoint.json").read_text()


@pytest.mark.parametrize(("words", "stages"), [((Continue(),), {"fit", "size"}), ((), {"fit"})])
def test_a_probe_enters_the_stage_of_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[Command, ...], stages: set[str]
) -> None:
    """Stage A has one term, which cannot be probed; stage B has two, and an adapter."""
    plan = plan_of(saving=Saving(folder=str(tmp_path)))
    go(plan, Phased(), *(words or (EndAfterStage(),)))
    monkeypatch.setattr("pytest_smoke.train.gradient_probe.seeded_task", lambda plan: Phased())
    if stages == {"fit"}:
        with pytest.raises(Exception, match="has one loss term, 'fit'"):
            probe(plan, tmp_path / "trained", batches=1)
        return
    found = probe(plan, tmp_path / "trained", batches=2)
    assert found.weights.keys() == stages
    assert (found.step, len(found.batches)) == (50, 2)
