"""Rolling checkpoints: an interrupted and resumed run reports and trains like one that was not interrupted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.events import Activity, Ended, Event, Restarted, Resumed, Saved, Started, Updates
from pytest_smoke.train.checkpoints import manager
from pytest_smoke.train.checkpoints.layout import NO_CHECKPOINTS, CheckpointPlan
from tests.train.checkpoints.test_resume import StatefulPair, go
from tests.train.conftest import Pair, RecordingChannel, make_plan

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
    assert restarted.why.endswith("was saved with other settings: state_format was 1, is 99")


@pytest.mark.parametrize(("key", "value"), [("predictions", "elsewhere.jsonl"), ("root", "elsewhere")])
def test_a_run_is_resumed_though_paths_of_files_have_changed(tmp_path: Path, key: str, value: Any) -> None:
    plan = make_plan(**STEPS, checkpoints=CheckpointPlan(folder=str(tmp_path), rolling=True))
    interrupt(plan, 400)
    channel = go(replace(plan, **{key: value}), Breaks())
    assert channel.of(Restarted) == []
    assert len(channel.of(Resumed)) == 1


def test_without_a_checkpoint_folder_no_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    go(make_plan(checkpoints=NO_CHECKPOINTS), Pair())
    assert list(tmp_path.iterdir()) == []
