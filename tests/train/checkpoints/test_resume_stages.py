"""Checkpoints of a run with stages: each stage is started again before its state is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_smoke.errors import TaskError
from pytest_smoke.events import (
    Activity,
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
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.checkpoints import manager
from pytest_smoke.train.checkpoints.layout import CheckpointPlan, ResumeCheck
from pytest_smoke.train.gradient_probe import probe
from pytest_smoke.train.loop import Loop
from pytest_smoke.train.plan import RunPlan
from tests.train.checkpoints.test_resume import Stateful
from tests.train.conftest import RecordingChannel, make_plan
from tests.train.test_stages import Encoded


class ProcessLostError(Exception):
    """The training process is killed."""


class BreakingChannel(RecordingChannel):
    """A channel that raises when a step arrives."""

    def __init__(self, *commands: Command, break_at: int | None = None) -> None:
        super().__init__(*commands)
        self.break_at = break_at

    def send(self, events: list[Event]) -> None:
        super().send(events)
        if any(isinstance(event, Step) and event.step == self.break_at for event in events):
            raise ProcessLostError


class Phased(Encoded):
    """The batches depend on the stages and phases that were started, and have random dropout."""

    def on_stage_start(self, model: nn.Module, stage: str, phase: str | None) -> None:
        adapter = dict(model.named_children()).get("adapter")
        super().on_stage_start(model, stage, phase)
        if adapter is not None:  # the second phase keeps that of the first
            model["adapter"] = adapter

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Any:
        for number, batch in enumerate(super().batches(batch_size, seed=seed, rank=rank, world_size=world_size)):
            yield batch * len(self.started) + number % 3

    def sources(self, batch: Tensor) -> dict[str, int]:
        right = int((batch[:, 0] > 0).sum())
        return {"right": right, "left": len(batch) - right}

    def losses(self, model: nn.Module, batch: Tensor) -> Any:
        return super().losses(model, nn.functional.dropout(batch, 0.1, model.training))


class WithStatefulLoader(Phased):
    """The same with loaders that have a state."""

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


def go(plan: RunPlan, task: Any, *commands: Command, break_at: int | None = None) -> RecordingChannel:
    torch.manual_seed(plan.seed)
    channel = BreakingChannel(*commands, break_at=break_at)
    Loop(plan, task, torch.device("cpu"), channel).run()
    return channel


def events_of(channel: RecordingChannel) -> list[Event]:
    """Return the events that do not depend on interruptions and times."""
    others = Activity | Started | Ended | Saved | Resumed | StageEnded
    return [event for event in channel.events if not isinstance(event, others)]


@pytest.mark.parametrize("task", [Phased, WithStatefulLoader])
@pytest.mark.parametrize("step", [7, 9, 20, 23, 37, 41])
def test_a_resumed_run_makes_the_same_steps_of_a_stage_bit_for_bit(tmp_path: Path, task: Any, step: int) -> None:
    """Within a stage or phase and at its start, with dropout, warm-up and momentum."""
    check = ResumeCheck(folder=str(tmp_path), step=step, steps=6)
    first = go(plan_of(checkpoints=CheckpointPlan(check=check)), task(), Continue())
    second = go(plan_of(checkpoints=CheckpointPlan(check=replace(check, is_resume_run=True))), task())
    assert second.of(Step) == first.of(Step)[step : step + 6]
    assert second.of(BatchDigest) == first.of(BatchDigest)
    assert second.of(Resumed) == [Resumed(step)]
    assert second.of(StageEnded) == []


@pytest.fixture
def _save_as_often_as_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "ROLLING_SHARE", 1e9)
    monkeypatch.setattr("pytest_smoke.train.loop.CHUNK_SECONDS", 0.0)


@pytest.mark.usefixtures("_save_as_often_as_possible")
@pytest.mark.parametrize("task", [Phased, WithStatefulLoader])
@pytest.mark.parametrize("steps", [[12], [20], [25], [37], [14, 30, 45]])
def test_a_run_with_stages_interrupted_any_number_of_times_reports_every_event_once_and_in_order(
    tmp_path: Path, task: Any, steps: list[int]
) -> None:
    whole = go(plan_of(), task(), Continue())
    plan = plan_of(checkpoints=CheckpointPlan(folder=str(tmp_path), rolling=True))
    for step in steps:
        with pytest.raises(ProcessLostError):
            go(plan, task(), Continue(), break_at=step)
    channel = go(plan, task(), Continue())
    assert events_of(channel) == events_of(whole)
    assert channel.of(SourceCounts)[-1].samples == 50 * 8
    assert [one.stage for one in channel.of(StageEnded)] == ["A", "B"]
    assert [updates.changed_frozen for updates in channel.of(Updates)] == [(), ()]
    assert len(channel.of(Resumed)) == len(steps)
    assert [path.name for path in tmp_path.iterdir()] == ["trained"]


@pytest.mark.usefixtures("_save_as_often_as_possible")
def test_the_resume_check_of_a_run_that_was_interrupted_after_its_step_can_still_be_made(tmp_path: Path) -> None:
    """Its checkpoint and the digests of the batches outlive the process."""
    check = ResumeCheck(folder=str(tmp_path), step=23, steps=6)
    plan = plan_of(checkpoints=CheckpointPlan(folder=str(tmp_path), rolling=True, check=check))
    with pytest.raises(ProcessLostError):
        go(plan, Phased(), Continue(), break_at=40)
    first = go(plan, Phased(), Continue())
    assert [(one.kind, one.step) for one in first.of(Saved)] == [("checked", 23), ("trained", 50)]
    assert [one.step for one in first.of(BatchDigest)] == list(range(23, 29))
    second = go(plan_of(checkpoints=CheckpointPlan(check=replace(check, is_resume_run=True))), Phased())
    assert second.of(Step) == first.of(Step)[23:29]
    assert second.of(BatchDigest) == first.of(BatchDigest)


@pytest.mark.usefixtures("_save_as_often_as_possible")
def test_a_resumed_run_ends_at_a_stage_whose_criteria_now_fail(tmp_path: Path) -> None:
    """It waits for a command at the end of each stage that it reports again. Nothing is left to resume from."""
    plan = plan_of(checkpoints=CheckpointPlan(folder=str(tmp_path), rolling=True))
    with pytest.raises(ProcessLostError):
        go(plan, Phased(), Continue(), break_at=30)
    channel = go(plan, Phased(), EndAfterStage())
    assert [event.step for event in channel.of(Step)] == list(range(20))
    assert [one.stage for one in channel.of(StageEnded)] == ["A"]
    assert isinstance(channel.events[-1], Ended)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_ends_after_a_stage_saves_its_weights_and_names_the_stage(tmp_path: Path) -> None:
    channel = go(plan_of(checkpoints=CheckpointPlan(folder=str(tmp_path))), Phased(), EndAfterStage())
    assert [(one.kind, one.step) for one in channel.of(Saved)] == [("trained", 20)]
    assert '"stage": "A"' in (tmp_path / "trained" / "checkpoint.json").read_text()


@pytest.mark.parametrize(("command", "terms"), [(Continue(), {"fit", "size"}), (EndAfterStage(), {"fit"})])
def test_a_gradient_probe_starts_the_stage_of_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, terms: set[str]
) -> None:
    """Stage A has one loss term, which cannot be probed; stage B has two, and an adapter."""
    plan = plan_of(checkpoints=CheckpointPlan(folder=str(tmp_path)))
    go(plan, Phased(), command)
    monkeypatch.setattr("pytest_smoke.train.gradient_probe.seeded_task", lambda plan: Phased())
    if terms == {"fit"}:
        with pytest.raises(TaskError, match="has one loss term, 'fit'"):
            probe(plan, tmp_path / "trained", batches=1)
        return
    result = probe(plan, tmp_path / "trained", batches=2)
    assert result.weights.keys() == terms
    assert (result.step, len(result.batches)) == (50, 2)
