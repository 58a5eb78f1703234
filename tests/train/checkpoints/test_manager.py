"""Rolling checkpoints: an interrupted and resumed run reports and trains like one that was not interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pytest_smoke.events import Activity, Ended, Event, Restarted, Resumed, Saved, Started, Updates
from pytest_smoke.train.checkpoints import manager
from pytest_smoke.train.checkpoints.io import read_state
from pytest_smoke.train.checkpoints.layout import NO_CHECKPOINTS, CheckpointPlan
from pytest_smoke.train.checkpoints.manager import CheckpointManager
from pytest_smoke.train.data import BatchStream
from pytest_smoke.train.ranks import Ranks
from pytest_smoke.train.step import Stepper
from tests.train.checkpoints.test_resume import StatefulPair, go
from tests.train.conftest import Pair, RecordingChannel, joined, make_plan

CPU = torch.device("cpu")
STEPS = {"run_steps": 80, "max_steps": 80, "evaluate_every_steps": 20}


class Breaks(StatefulPair):
    """Raises at a chosen call of `losses`."""

    def __init__(self, at_call: int | None = None) -> None:
        super().__init__()
        self.calls_left = at_call

    def evaluate(self, model: Any) -> dict[str, float]:
        return {"norm": sum(p.square().sum().item() for p in model.parameters())}

    def losses(self, model: Any, batch: Any) -> Any:
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left == 0:
                raise RuntimeError("interrupted")
        return super().losses(model, batch)


@pytest.fixture(autouse=True)
def _save_as_often_as_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lift the limit on the time for checkpoints: these runs take milliseconds."""
    monkeypatch.setattr(manager, "ROLLING_SHARE", 1e9)


def interrupt(plan: Any, at_call: int) -> None:
    with pytest.raises(RuntimeError, match="interrupted"):
        go(plan, Breaks(at_call))


def rolling(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def events_of(channel: RecordingChannel) -> list[Event]:
    """Return the events that do not depend on interruptions."""
    return [e for e in channel.events if not isinstance(e, Activity | Started | Ended | Saved | Resumed | Updates)]


@pytest.mark.parametrize("calls", [[380], [150, 120], [200, 90, 60]])
def test_a_run_interrupted_any_number_of_times_reports_every_event_once_and_in_order(
    tmp_path: Path, calls: list[int]
) -> None:
    whole = go(make_plan(**STEPS), Breaks())
    plan = make_plan(**STEPS, checkpoints=CheckpointPlan(folder=str(tmp_path), rolling=True))
    checkpoints = []
    for at_call in calls:
        interrupt(plan, at_call)
        (path,) = rolling(tmp_path)
        checkpoints.append(int(path.name.removeprefix("step-")))
    channel = go(plan, Breaks())
    assert events_of(channel) == events_of(whole)
    assert channel.of(Updates) == whole.of(Updates)
    assert {event.step for event in channel.of(Resumed)} == set(checkpoints)
    assert [path.name for path in tmp_path.iterdir()] == ["trained"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder, plan: (folder / "model.safetensors").write_bytes(b"x"), "damaged: model.safetensors changed"),
        (lambda folder, plan: (folder / "checkpoint.json").write_text("{}"), "is not the description of a checkpoint"),
    ],
)
def test_with_a_damaged_checkpoint_a_run_restarts_and_says_why(tmp_path: Path, damage: Any, message: str) -> None:
    """No event of the earlier process is reported again."""
    plan = make_plan(**STEPS, checkpoints=CheckpointPlan(folder=str(tmp_path), rolling=True))
    interrupt(plan, 400)
    damage(rolling(tmp_path)[0], plan)
    channel = go(plan, Breaks())
    (restarted,) = channel.of(Restarted)
    assert message in restarted.why
    assert events_of(channel)[1:] == events_of(go(make_plan(**STEPS), Breaks()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": make_plan(**{**STEPS, "learning_rate": 0.2}).stages}, "learning_rate was 0.1, is 0.2"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"loss_weights": {"first": 2.0}}, "loss_weights.first was not set, is 2.0"),
    ],
)
def test_with_other_settings_a_run_restarts_and_names_both_values(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    plan = make_plan(**STEPS, checkpoints=CheckpointPlan(folder=str(tmp_path), rolling=True))
    interrupt(plan, 400)
    channel = go(replace(plan, **change), Breaks())
    assert f"was saved with other settings: {message}" in channel.of(Restarted)[0].why
    assert channel.of(Resumed) == []


def test_from_the_state_of_another_version_a_run_restarts_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(**STEPS, checkpoints=CheckpointPlan(folder=str(tmp_path), rolling=True))
    interrupt(plan, 400)
    monkeypatch.setattr("pytest_smoke.train.checkpoints.manager.STATE_FORMAT", 99)
    (restarted,) = go(plan, Breaks()).of(Restarted)
    assert restarted.why.endswith("was saved with other settings: state_format was 2, is 99")


@pytest.mark.parametrize(("key", "value"), [("predictions", "elsewhere.jsonl"), ("root", "elsewhere")])
def test_a_run_is_resumed_though_paths_of_files_have_changed(tmp_path: Path, key: str, value: Any) -> None:
    plan = make_plan(**STEPS, checkpoints=CheckpointPlan(folder=str(tmp_path), rolling=True))
    interrupt(plan, 400)
    channel = go(replace(plan, **{key: value}), Breaks())
    assert channel.of(Restarted) == []
    assert len(channel.of(Resumed)) == 1


class WithBuffer(StatefulPair):
    """Its model has a buffer."""

    def model(self) -> nn.Module:
        model = super().model()
        model.register_buffer("mean", torch.zeros(2))
        return model


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[tuple[CheckpointManager, Stepper, Ranks]]:
    """Return what saves the rolling checkpoints of a launched run with one process."""
    plan, task = make_plan(checkpoints=CheckpointPlan(folder=str(tmp_path), rolling=True)), WithBuffer()
    for ranks in joined(CPU):
        stepper = Stepper(plan, task, CPU, ranks)
        made = CheckpointManager(plan, task, stepper, CPU, lambda events: None, ranks)
        made.save(4, BatchStream(task, plan, seed=0), {"wall_seconds": 1.0})
        yield made, stepper, ranks


def test_older_checkpoint_is_removed_by_the_process_that_has_written_the_newer_one(
    tmp_path: Path, launched: tuple[CheckpointManager, Stepper, Ranks], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process removed it before it knew whether there was a newer one."""
    made, _, ranks = launched
    batches = BatchStream(WithBuffer(), make_plan(), seed=0)
    monkeypatch.setattr(ranks, "gather", lambda own: [])  # torch gathers on the first process
    monkeypatch.setattr(made, "_is_first", False)
    made.save(8, batches, {})
    assert rolling(tmp_path) == [tmp_path / "step-4"]
    monkeypatch.setattr(made, "_is_first", True)
    made.save(8, batches, {})
    assert rolling(tmp_path) == [tmp_path / "step-8"]


def test_each_process_continues_with_its_own_buffers(
    tmp_path: Path, launched: tuple[CheckpointManager, Stepper, Ranks]
) -> None:
    """With FSDP2 they differ, and the weights in a checkpoint have those of the first process."""
    made, stepper, _ = launched
    state = read_state(tmp_path / "step-4")
    training = made.training_of(state)
    training["buffers"]["mean"] = torch.ones(2)
    made.load(state, training)
    assert dict(stepper.model.named_buffers())["mean"].tolist() == [1.0, 1.0]


def test_without_a_checkpoint_folder_no_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    go(make_plan(checkpoints=NO_CHECKPOINTS), Pair())
    assert list(tmp_path.iterdir()) == []
