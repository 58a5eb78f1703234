"""What of a run goes to disk, and when; and how a run goes on from there."""

from __future__ import annotations

import inspect
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from pytest_smoke.errors import CheckpointError
from pytest_smoke.events import BatchDigest, Command, Event, Restarted, Resumed, Saved
from pytest_smoke.train.batch_stream import BatchStream
from pytest_smoke.train.channel import Channel
from pytest_smoke.train.checkpoints.io import StateFile, read_state, write_state
from pytest_smoke.train.checkpoints.journal import Journal
from pytest_smoke.train.checkpoints.layout import CHECKED, JOURNAL, LAST_GOOD, ROLLING, TRAINED
from pytest_smoke.train.checkpoints.restore import changed, fingerprints, load_state
from pytest_smoke.train.digest import digest, leaves
from pytest_smoke.train.plan import RunPlan, probe_every_steps
from pytest_smoke.train.rng import generators
from pytest_smoke.train.step import Stepper
from pytest_smoke.train.task import Task

NOT_TRAINED = (
    *("number", "accept", "continue_on_fail", "steps_per_epoch", "from_scratch"),
    *("full_learning_rate", "full_warmup_steps", "full_steps"),
)
"""Fields of a stage that only the judge reads."""
NOT_SETTINGS = ("root", "device", "saving", "pipeline", "predictions")
"""Fields of a plan that do not shape its dynamics."""
ROLLING_SHARE = 0.05
"""Share of the run's time that rolling checkpoints may take; a fortieth of the run lies between two at least."""


class CheckpointManager:
    """Writes the checkpoints of one run, and finds the one that it goes on from."""

    def __init__(self, plan: RunPlan, task: Task, stepper: Stepper, device: torch.device, channel: Channel) -> None:
        self._plan, self._task, self._stepper, self._device = plan, task, stepper, device
        self._saving, self._check = plan.saving, plan.saving.check
        self._folder = Path(self._saving.folder) if self._saving.folder else None
        self._journal = None
        if self._saving.rolling and self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._journal = Journal(channel, self._folder / JOURNAL)
        self.channel: Channel = self._journal or channel
        """Where the run's records go."""
        self._next = time.monotonic()

    @property
    def keeps(self) -> bool:
        """Whether checkpoints are wanted at all."""
        return self._folder is not None

    @property
    def again(self) -> bool:
        """Whether this is the second run of the `resume` check."""
        return self._check is not None and self._check.again

    @property
    def until(self) -> int:
        """The step before which the run ends."""
        check = self._check
        return check.step + check.steps if check is not None and check.again else self._plan.run_steps

    def due(self, step: int) -> bool:
        """Whether `keep` has something to do before `step`."""
        return self._checked(step) or self._rolls(step)

    def keep(self, step: int, feed: BatchStream, progress: Mapping[str, Any]) -> None:
        """Write what is due, all records up to here having been sent. `progress`: what the loop itself must know."""
        began = time.monotonic()
        training = self._training(step, feed, progress)
        if self._checked(step):
            assert self._check is not None
            training["fingerprints"] = fingerprints(self._stepper)
            self.channel.send([*self._write(Path(self._check.folder), CHECKED, CHECKED, step, training)])
        if self._rolls(step) and self._journal is not None and self._folder is not None:
            self._journal.commit()
            name = f"{ROLLING}{step}"
            records = self._write(self._folder, name, "rolling", step, training)
            if not records[0].problem:
                _remove(self._rolling(), but=name)
            now = time.monotonic()
            self._next = now + (now - began) / ROLLING_SHARE

    def digests(self, step: int, batches: Sequence[Any]) -> list[Event]:
        """The digest of a step's batches, where the `resume` check compares them."""
        if self._check is None or not self._check.covers(step):
            return []
        return [BatchDigest(step, digest(list(batches)))]

    def trained(self, step: int, feed: BatchStream, progress: Mapping[str, Any]) -> list[Event]:
        """The state after the last step that was made, whole; nothing is left to go on from."""
        if self._folder is None:
            return []
        return [*self._last(TRAINED, step, self._training(step, feed, progress))]

    def last_good(self, step: int) -> list[Event]:
        """The weights as they are, which are those before `step`; what the optimizer held then is gone."""
        return [*self._last(LAST_GOOD, step, None)]

    def forget(self) -> None:
        """Leave nothing to go on from: the run has ended."""
        if self._journal is not None and self._folder is not None:
            _remove([*self._rolling(), self._folder / JOURNAL])

    def found(self) -> StateFile | None:
        """The checkpoint to go on from; None: begin at step 0. Raises CheckpointError for the check's second run."""
        if self._check is not None and self._check.again:
            return read_state(Path(self._check.folder) / CHECKED)
        if self._journal is None:
            return None
        state, why = self._newest()
        if state is None:
            _remove(self._rolling())
            self._journal.rewind(0)
            self.channel.send([Restarted(why)] if why else [])
        return state

    def load(self, state: StateFile, training: Mapping[str, Any]) -> Command | None:
        """Load weights, optimizer and loss scaler into the stage that they are of, and tell earlier records again.

        What the listener says to them, where that is not to go on. Raises CheckpointError.
        """
        load_state(state, training, self._stepper)
        command: Command | None = None
        different: tuple[str, ...] = ()
        if self._journal is not None:
            command = self._journal.rewind(state.step)
        else:
            different = changed(training["fingerprints"], self._stepper)
        self.channel.send([Resumed(state.step, different, training["wall_seconds"])])
        return command

    def _training(self, step: int, feed: BatchStream, progress: Mapping[str, Any]) -> dict[str, Any]:
        """All that the run before `step` is, beside its weights. The copies wait for the device."""
        return {
            "step": step,  # the schedule is a function of it, and has no other state
            "optimizer": self._stepper.optimizer.state_dict(),
            "scaler": self._stepper.scaler.state_dict(),
            "generators": generators(self._device),
            "loaders": feed.states(),
            **progress,
        }

    def _checked(self, step: int) -> bool:
        return self._check is not None and not self._check.again and step == self._check.step

    def _rolls(self, step: int) -> bool:
        stage = self._stepper.stage
        at = step > 0 and (step - stage.first_step) % probe_every_steps(stage) == 0
        return self._journal is not None and at and time.monotonic() >= self._next

    def _rolling(self) -> list[Path]:
        """Newest first."""
        assert self._folder is not None
        found = [path for path in self._folder.glob(f"{ROLLING}*") if path.name.removeprefix(ROLLING).isdigit()]
        return sorted(found, key=lambda path: -int(path.name.removeprefix(ROLLING)))

    def _newest(self) -> tuple[StateFile | None, str]:
        """The newest checkpoint that is whole and of these settings; why there is none, where one was found."""
        why = ""
        for path in self._rolling():
            try:
                state = read_state(path)
            except CheckpointError as error:
                why = why or str(error)
                continue
            # Through JSON, as the other came: tuples are lists there.
            now = json.loads(json.dumps(settings_of(self._plan, self._task, self._device), default=str))
            then = state.about.get("settings", {})
            was, is_now = dict(leaves(then)), dict(leaves(now))
            other = [
                f"{key} was {was.get(key, 'not set')}, is {is_now.get(key, 'not set')}"
                for key in dict.fromkeys([*is_now, *was])
                if was.get(key) != is_now.get(key)
            ]
            if not other:
                return state, ""
            why = f"{path} is of other settings: {'; '.join(other)}"
        return None, why

    def _last(self, kind: str, step: int, training: Mapping[str, Any] | None) -> list[Saved]:
        if self._folder is None:
            return []
        saved = self._write(self._folder, kind, kind, step, training)
        self.forget()
        return saved

    def _write(self, folder: Path, name: str, kind: str, step: int, training: Mapping[str, Any] | None) -> list[Saved]:
        """A full disk must not cost a verdict: what went wrong is in the record."""
        try:
            write_state(folder, name, self._stepper.model, training, self._about(kind, step))
        except Exception as error:  # of the disk, of safetensors, of a pickle
            return [Saved(step, kind, folder="", problem=f"{type(error).__name__}: {error}"[:500])]
        return [Saved(step, kind, folder=name)]

    def _about(self, kind: str, step: int) -> dict[str, Any]:
        """What a reader must know of a checkpoint."""
        plan = self._plan
        return {
            "kind": kind,
            "step": step,
            "stage": self._stepper.stage.name,
            "id": self._saving.id,
            "recipe": self._saving.recipe,
            "task": plan.task,
            "args": plan.args,
            "seed": plan.seed,
            "torch": str(torch.__version__),
            "settings": settings_of(plan, self._task, self._device),
        }


def settings_of(plan: RunPlan, task: Task, device: torch.device) -> dict[str, Any]:
    """What two runs must have in common for one to go on from the other's checkpoint."""
    settings = {key: value for key, value in asdict(plan).items() if key not in NOT_SETTINGS}
    settings["stages"] = [
        {key: value for key, value in stage.items() if key not in NOT_TRAINED} for stage in settings["stages"]
    ]
    return {**settings, "device": device.type, "task_sha256": _source_sum(task)}


def _source_sum(task: Task) -> str:
    """Of the file that holds the task; empty where there is none."""
    try:
        return sha256(Path(inspect.getfile(type(task))).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return ""


def _remove(paths: Sequence[Path], but: str = "") -> None:
    for path in paths:
        if path.name != but:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
