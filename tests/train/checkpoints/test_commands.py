"""Commands are for the training loop: nothing in the checkpoint code asks for one or returns one."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch

from pytest_smoke.events import Abort, Command, Continue, EndAfterStage, Ended, Event, Finish, Resumed, StageEnded, Step
from pytest_smoke.train.channel import Channel
from pytest_smoke.train.checkpoints import manager
from pytest_smoke.train.checkpoints.journal import Journal
from pytest_smoke.train.checkpoints.layout import CheckpointPlan
from pytest_smoke.train.checkpoints.manager import CheckpointManager, LoadedState
from pytest_smoke.train.loop import Loop
from pytest_smoke.train.step import Stepper
from tests.train.checkpoints.test_resume_stages import Phased, ProcessLostError, go, plan_of
from tests.train.conftest import RecordingChannel

COMMANDS = set(get_args(Command))


def types_in(annotation: Any) -> set[Any]:
    return {annotation}.union(*map(types_in, get_args(annotation)))


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the plan of a run that was killed in its second stage, after a checkpoint there."""
    monkeypatch.setattr(manager, "ROLLING_SHARE", 1e9)
    monkeypatch.setattr("pytest_smoke.train.loop.CHUNK_SECONDS", 0.0)
    plan = plan_of(checkpoints=CheckpointPlan(folder=str(tmp_path), rolling=True))
    with pytest.raises(ProcessLostError):
        go(plan, Phased(), Continue(), break_at=30)
    return plan


@pytest.mark.parametrize("kind", [CheckpointManager, Journal])
def test_no_method_of_the_checkpoint_code_returns_a_command(kind: type) -> None:
    methods = inspect.getmembers(kind, inspect.isfunction)
    returned = {name: types_in(get_type_hints(method).get("return")) for name, method in methods}
    assert {name for name, types in returned.items() if types & COMMANDS} == set()
    assert not {"poll", "wait"} & {name for name, _ in methods}


def test_only_poll_may_return_none() -> None:
    """None stands for "nothing yet"; who waits for a command gets one."""
    assert types_in(get_type_hints(Channel.poll)["return"]) >= {type(None), *COMMANDS}
    assert types_in(get_type_hints(Channel.wait)["return"]) >= COMMANDS
    assert type(None) not in types_in(get_type_hints(Channel.wait)["return"])


def test_loading_a_checkpoint_returns_the_events_before_it_and_reports_nothing(interrupted: Any) -> None:
    task, sent = Phased(), list[Event]()
    stepper = Stepper(interrupted, task, torch.device("cpu"))
    checkpoints = CheckpointManager(interrupted, task, stepper, torch.device("cpu"), sent.extend)
    state = checkpoints.latest()
    assert state is not None
    stepper.start_stage(interrupted.stages[1])
    loaded = checkpoints.load(state, state.training())
    assert isinstance(loaded, LoadedState)
    assert sent == []
    assert [event.step for event in loaded.events if isinstance(event, Step)] == list(range(state.step))
    assert [event.stage for event in loaded.events if isinstance(event, StageEnded)] == ["A"]
    assert loaded.resumed == Resumed(state.step)


@pytest.mark.parametrize("command", [EndAfterStage(), Abort(last_good_step=5), Finish()])
def test_a_resumed_run_asks_for_a_command_at_each_stage_end_and_follows_it(interrupted: Any, command: Command) -> None:
    """The command is asked for when everything up to the end of the stage has been reported again, and nothing more."""

    class Asked(RecordingChannel):
        def wait(self) -> Command:
            self.reported_at_wait = list(self.events)
            return super().wait()

    channel = Asked(command)
    Loop(interrupted, Phased(), torch.device("cpu"), channel).run()
    assert isinstance(channel.reported_at_wait[-1], StageEnded)
    after = channel.events[len(channel.reported_at_wait) :]
    assert [type(event) for event in after] == [Resumed, Ended]
    assert [event.step for event in channel.of(Step)] == list(range(20))
