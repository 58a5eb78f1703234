"""Where and when a run's states go to disk, in plain data."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

WEIGHTS, TRAINING, ABOUT = "model.safetensors", "training.pt", "checkpoint.json"
"""The files of a checkpoint: weights; optimizer, generators and data position (not of every one); what it is of."""
TRAINED, LAST_GOOD = "trained", "last-good"
"""Checkpoints that stay: after the last step, and the one that a stopped run was looked at on."""
ROLLING = "step-"
"""Begins the names of those that a killed run goes on from; they go when the run has ended."""
JOURNAL = "records.jsonl"
"""The records up to the newest of those, and perhaps a few more."""
CHECKED = "checked"
"""The checkpoint of the `resume` check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The `resume` check: a second process goes on from `step`, and trains `steps` further ones."""

    folder: str
    step: int
    steps: int
    again: bool = False
    """Whether this run is the second one."""

    def covers(self, step: int) -> bool:
        """Whether both runs make that step."""
        return self.step <= step < self.step + self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What a run writes to disk. Nothing, as it stands."""

    id: str = ""
    """The item's id, for whoever finds the files."""
    recipe: str = ""
    """The recipe's file."""
    folder: str | None = None
    """Where the run's checkpoints go; None: nowhere."""
    rolling: bool = False
    """Whether checkpoints to go on from are written as the run goes."""
    check: Check | None = None


NOTHING = Saving()


def clear(folder: Path, *, rolling: bool) -> None:
    """Remove the checkpoints of an earlier session: they must not be read as those of this one.

    `rolling`: also those that a run could go on from.
    """
    for path in (folder,) if rolling else (folder / TRAINED, folder / LAST_GOOD):
        shutil.rmtree(path, ignore_errors=True)
