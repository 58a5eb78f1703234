"""Save the checkpoints of a run on disk, and load the one that it is resumed from."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pytest_smoke.errors import CheckpointError
from pytest_smoke.events import BatchDigest, Event, Restarted, Resumed, Saved, StageEnded
from pytest_smoke.files import file_sha256, os_error_text
from pytest_smoke.task import Task
from pytest_smoke.text import listed
from pytest_smoke.train.channel import Send, sending_plain
from pytest_smoke.train.checkpoints.io import (
    StateFile,
    changed,
    fingerprints,
    load_buffers,
    load_state,
    optimizer_state,
    read_state,
    saved_buffers,
    weights_of,
    write_state,
)
from pytest_smoke.train.checkpoints.journal import Journal, damage
from pytest_smoke.train.checkpoints.layout import CHECKED, JOURNAL, LAST_GOOD, ROLLING, TRAINED
from pytest_smoke.train.data import BatchStream
from pytest_smoke.train.device import generator_states
from pytest_smoke.train.digest import digest, leaves
from pytest_smoke.train.plan import RunPlan, probe_every_steps
from pytest_smoke.train.ranks import Ranks, is_first
from pytest_smoke.train.source_files import source_checksums
from pytest_smoke.train.step import Stepper

NOT_TRAINED = (
    *("number", "accept", "continue_on_fail", "steps_per_epoch", "from_scratch"),
    *("full_learning_rate", "full_warmup_steps", "full_steps"),
)
"""Fields of a stage that have no effect on training."""
STATE_FORMAT = 2
"""Version of the training state in a checkpoint, raised when a part is added, removed or changed: a run is not resumed
from the state of another version."""
NOT_SETTINGS = (
    "root",
    "allowed",
    "device",
    "checkpoints",
    "pipeline",
    "predictions",
    "launched",
    "processes",
    "process",
)
"""Fields of a plan that have no effect on training."""
ROLLING_SHARE = 0.05
"""Share of the run's time that rolling checkpoints may take; there are at most 40 per stage."""
STATE_OF_EVERY_RANK = (
    *("generators", "loaders", "first_batches", "batch_sizes", "items", "before", "fingerprints", "buffers"),
)
"""Parts of the training state that each process of a run has of its own."""
ONLY_STAGE = "stages[0]."
"""How a setting begins of a run that declares no stages: a declared stage has its name in the brackets."""
PROBLEM_CHARS = 500
"""Characters of an exception's message that are reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedState:
    """What was loaded from a checkpoint besides the state of model, optimizer and loss scaler."""

    events: list[Event]
    """What earlier processes reported before the checkpoint's step, to be reported again."""
    resumed: Resumed
    """The event that follows them."""


class CheckpointManager:
    """Saves the checkpoints of one run, and finds and loads the one that it is resumed from."""

    def __init__(
        self,
        plan: RunPlan,
        task: Task,
        stepper: Stepper,
        device: torch.device,
        send: Send,
        ranks: Ranks | None = None,
        data_files: Mapping[str, Any] | None = None,
    ) -> None:
        """`ranks`: the processes of the run. All call the methods of their managers together, and the first writes.

        `data_files`: digests of the data that the task names, by path, as they are now.
        """
        self._plan, self._task, self._stepper, self._device, self._ranks = plan, task, stepper, device, ranks
        self._is_first = is_first(ranks)
        self._checkpoints, self._check = plan.checkpoints, plan.checkpoints.check
        self._folder = Path(self._checkpoints.folder) if self._checkpoints.folder else None
        self._data_files = dict(data_files or {})
        self._imported: dict[str, str] = {}
        """SHA-256 of source files by path, as they were when they were first seen; only if checkpoints are kept.

        A module is the one that was imported, even if its file is changed later."""
        if self._folder is not None:
            self._see_imports()
        self._rolls = self._checkpoints.rolling and self._folder is not None
        self._journal = None
        self.replay: Send = send if ranks is None else ranks.report
        """Reports events past the journal."""
        self.send: Send = send
        """Reports events of this run; a resumed run reports them again."""
        if self._rolls and self._is_first and self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._journal = Journal(self.replay, self._folder / JOURNAL)
            if ranks is None:
                self.send = sending_plain(self._journal.send)
            else:
                ranks.report = self._journal.send  # what the processes report together, and not the parts of each
        self._next_rolling = time.monotonic()
        self._decided: tuple[int, bool] | None = None
        """The newest step at which a rolling checkpoint may be due, and whether it is, in all processes."""

    @property
    def enabled(self) -> bool:
        """Whether checkpoints are kept after the run."""
        return self._folder is not None

    @property
    def is_resume_run(self) -> bool:
        """Whether this is the second run of the `resume` check."""
        return self._check is not None and self._check.is_resume_run

    @property
    def end_step(self) -> int:
        """The step before which the run ends."""
        check = self._check
        return check.step + check.steps if check is not None and check.is_resume_run else self._plan.run_steps

    def should_save(self, step: int) -> bool:
        """Tell whether `save` has something to do before `step`."""
        return self._is_checked(step) or self._should_roll(step)

    def save(self, step: int, batches: BatchStream, progress: Mapping[str, Any]) -> None:
        """Save the checkpoints that are due before `step`, after all earlier events have been reported.

        `progress` is the state of the training loop. Waits for the device.
        """
        started = time.monotonic()
        if self._ranks is not None:
            self._ranks.collect()
        if self._is_checked(step):
            progress = {**progress, "fingerprints": fingerprints(self._stepper)}
        training = self._training_state(step, batches, progress)
        if self._is_checked(step):
            assert self._check is not None
            self.send([self._write(Path(self._check.folder), CHECKED, CHECKED, step, training)])
        if self._should_roll(step) and self._folder is not None:
            if self._journal is not None:
                self._journal.commit()
            name = f"{ROLLING}{step}"
            saved = self._write(self._folder, name, "rolling", step, training)
            if self._is_first and not saved.problem:  # the others do not know whether it was written
                _remove(path for path in self._rolling() if path.name != name)
            now = time.monotonic()
            self._next_rolling = now + (now - started) / ROLLING_SHARE

    def digests(self, step: int, batches: Sequence[Any]) -> list[Event]:
        """Return the digest of a step's micro-batches if the `resume` check compares them."""
        if self._check is None or not self._check.covers(step):
            return []
        return [BatchDigest(step, digest(list(batches)))]

    def save_trained(self, step: int, batches: BatchStream, progress: Mapping[str, Any]) -> list[Event]:
        """Save the whole state after the last step of the run, and remove what it could be resumed from."""
        if self._folder is None:
            return []
        return self._save_final(TRAINED, step, self._training_state(step, batches, progress))

    def save_last_good(self, step: int) -> list[Event]:
        """Save the current weights as those before `step`, and remove what the run could be resumed from.

        Without the optimizer: the copies in memory hold weights only.
        """
        return self._save_final(LAST_GOOD, step, None)

    def discard(self) -> None:
        """Remove what the run could be resumed from: it has ended."""
        if self._journal is not None and self._folder is not None:
            _remove([*self._rolling(), self._folder / JOURNAL])

    def latest(self) -> StateFile | None:
        """Return the checkpoint to resume from; None to start at step 0.

        Raises CheckpointError in the second run of the `resume` check.
        """
        if self._check is not None and self._check.is_resume_run:
            return read_state(Path(self._check.folder) / CHECKED)
        if not self._rolls:
            return None
        state: StateFile | None = None
        if self._is_first:
            state, why = self._newest_usable()
            if state is None:
                self.discard()
                self.send([Restarted(why)] if why else [])
        return state if self._ranks is None else self._ranks.tell(state)

    def load(self, state: StateFile, training: Mapping[str, Any]) -> LoadedState:
        """Load weights, optimizer and loss scaler into the stage that they were saved in.

        `training` is that of the state. Raises CheckpointError.
        """
        load_state(state, training, self._stepper)
        load_buffers(self._stepper.model, training.get("buffers", {}))
        events = self._journal.rewind(state.step) if self._journal is not None else []
        if self._ranks is not None:
            # The other processes report nothing, and wait for the command after each stage as the first one does.
            ends: list[Event] = self._ranks.tell([event for event in events if isinstance(event, StageEnded)])
            events = events if self._is_first else ends
            self._ranks.together.load_state_dict(training["together"])
        different = () if self._rolls else changed(training["fingerprints"], self._stepper)
        if self._ranks is not None:
            different = tuple(dict.fromkeys(name for own in self._ranks.gather(different) for name in own))
        return LoadedState(events=events, resumed=Resumed(state.step, different, training["wall_seconds"]))

    def training_of(self, state: StateFile) -> dict[str, Any]:
        """Return the training state in a checkpoint, as this process has saved it. Raises CheckpointError."""
        training = state.training()
        return training if self._ranks is None else training | training["ranks"][self._ranks.rank]

    def _training_state(self, step: int, batches: BatchStream, progress: Mapping[str, Any]) -> dict[str, Any]:
        """Return the state of the run before `step` without its weights. Waits for the device.

        In a run with several processes, that of the first one, which has the others' own parts in `ranks`.
        """
        training = {
            "step": step,  # also the state of the schedule, which is a function of the step
            "optimizer": optimizer_state(self._stepper),
            "scaler": self._stepper.scaler.state_dict(),
            "generators": generator_states(self._device),
            "loaders": batches.states(),
            **progress,
        }
        if self._ranks is None:
            return training
        training["buffers"] = saved_buffers(self._stepper.model)  # the weights have those of the first process
        own = {key: training[key] for key in STATE_OF_EVERY_RANK if key in training}
        if self._stepper.sharding is None:
            own.pop("before", None)  # the same in all processes
        return {**training, "ranks": self._ranks.gather(own), "together": self._ranks.together.state_dict()}

    def _is_checked(self, step: int) -> bool:
        return self._check is not None and not self._check.is_resume_run and step == self._check.step

    def _should_roll(self, step: int) -> bool:
        stage = self._stepper.stage
        if not self._rolls or step == 0 or (step - stage.first_step) % probe_every_steps(stage):
            return False
        if self._decided is None or self._decided[0] != step:
            is_due = time.monotonic() >= self._next_rolling
            self._decided = step, is_due if self._ranks is None else self._ranks.tell(is_due)
        return self._decided[1]

    def _rolling(self) -> list[Path]:
        """Return the rolling checkpoints, newest first."""
        assert self._folder is not None
        numbered = re.compile(rf"{ROLLING}([0-9]{{1,18}})")
        matches = [(path, numbered.fullmatch(path.name)) for path in self._folder.glob(f"{ROLLING}*")]
        return [path for path, _ in sorted(((p, int(m[1])) for p, m in matches if m), key=lambda pair: -pair[1])]

    def _newest_usable(self) -> tuple[StateFile | None, str]:
        """Return the newest undamaged checkpoint of these settings, or why those that exist cannot be used."""
        why = ""
        for path in self._rolling():
            try:
                state = read_state(path)
            except CheckpointError as error:
                why = why or str(error)
                continue
            if edited := self._edited(state.about):
                why = f"{listed(edited)} changed since the checkpoint of step {state.step} was saved"
                continue
            # Through JSON, as the saved ones: it turns tuples into lists.
            current = json.loads(json.dumps(settings_of(self._plan, self._device), default=str))
            saved, now = dict(leaves(state.about.get("settings", {}))), dict(leaves(current))
            differences = [
                f"{key.removeprefix(ONLY_STAGE)} was {saved.get(key, 'not set')}, is {now.get(key, 'not set')}"
                for key in dict.fromkeys([*now, *saved])
                if saved.get(key) != now.get(key)
            ]
            if not differences and (lacking := damage(path.parent / JOURNAL, state.step)):
                why = lacking
                continue
            if not differences:
                return state, ""
            why = f"the checkpoint of step {state.step} was saved with other settings: {'; '.join(differences)}"
        return None, why

    def _see_imports(self) -> None:
        """Remember the source files of modules that were imported since the last time, and of the task."""
        root = os.path.join(os.path.abspath(self._plan.root), "")
        known = {os.path.join(root, path) for path in self._imported}
        found = source_checksums(self._plan.root, known=known)
        with contextlib.suppress(OSError, TypeError):  # a task may be defined in no file
            file = os.path.abspath(inspect.getfile(type(self._task)))
            if file not in known | found.keys():
                found[file] = file_sha256(Path(file))
        self._imported |= {path.removeprefix(root): checksum for path, checksum in found.items()}

    def _edited(self, about: Mapping[str, Any]) -> list[str]:
        """Return the files that are not what they were when a checkpoint's run began.

        A source file that is gone matters only if another one was changed, which imported it.
        """
        data, sources = (_mapping(about.get(key)) for key in ("data_files", "source_files"))
        edited = [path for path, digest_then in data.items() if self._data_files.get(path, digest_then) != digest_then]
        for path, checksum in sources.items():
            with contextlib.suppress(OSError):
                if file_sha256(Path(self._plan.root, path)) != checksum:
                    edited.append(path)
        return edited

    def _save_final(self, kind: str, step: int, training: Mapping[str, Any] | None) -> list[Event]:
        if self._folder is None:
            return []
        saved = self._write(self._folder, kind, kind, step, training)
        self.discard()
        return [saved]

    def _write(self, folder: Path, name: str, kind: str, step: int, training: Mapping[str, Any] | None) -> Saved:
        """Write a checkpoint. A failure is returned, not raised: a full disk must not cost the verdict."""
        weights = weights_of(self._stepper)
        if not self._is_first:
            return Saved(step, kind, folder=name)  # only the first process reports
        try:
            write_state(folder, name, weights, training, self._about(kind, step))
        except Exception as error:  # of the disk, of safetensors, of a pickle
            why = os_error_text(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            return Saved(step, kind, folder="", problem=why[:PROBLEM_CHARS])
        return Saved(step, kind, folder=name)

    def _about(self, kind: str, step: int) -> dict[str, Any]:
        """Return the description of a checkpoint."""
        plan = self._plan
        self._see_imports()
        return {
            "kind": kind,
            "step": step,
            "stage": self._stepper.stage.name,
            "id": self._checkpoints.id,
            "recipe": self._checkpoints.recipe,
            "task": plan.task,
            "args": plan.args,
            "seed": plan.seed,
            "torch": str(torch.__version__),
            "settings": settings_of(plan, self._device),
            "source_files": self._imported,
            "data_files": self._data_files,
        }


def settings_of(plan: RunPlan, device: torch.device) -> dict[str, Any]:
    """Return the settings in which two runs must agree if one is resumed from the other's checkpoint."""
    settings = {key: value for key, value in asdict(plan).items() if key not in NOT_SETTINGS}
    settings["stages"] = [
        {key: value for key, value in stage.items() if key not in NOT_TRAINED} for stage in settings["stages"]
    ]
    if plan.launched:
        settings["launch.nproc_per_node"] = plan.processes  # each resumes from its own part of the state
    return {**settings, "device": device.type, "state_format": STATE_FORMAT}


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping as it is, and an empty one for anything else, as in a description that somebody edited."""
    return value if isinstance(value, Mapping) else {}


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
