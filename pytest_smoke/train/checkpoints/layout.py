"""Which files a smoke run's checkpoints consist of, and which of them are wanted. Plain data: imports no torch."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

WEIGHTS, TRAINING, ABOUT = "model.safetensors", "training.pt", "checkpoint.json"
"""Files of a checkpoint: weights; optimizer, generators and data position (not in every one); its description."""
TRAINED, LAST_GOOD = "trained", "last-good"
"""Checkpoints that stay: after the last step, and the one that the gradients of a stopped run were probed on."""
ROLLING = "step-"
"""Prefix of the checkpoints that an interrupted run is resumed from; they are removed when the run has ended."""
JOURNAL = "events.jsonl"
"""The events up to the newest rolling checkpoint, and perhaps a few more."""
CHECKED = "checked"
"""The checkpoint of the `resume` check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeCheck:
    """The `resume` check: a second process resumes at `step` and makes `steps` steps."""

    folder: str
    """Folder of the checkpoint that both processes use."""
    step: int
    """The checkpoint is saved before this step."""
    steps: int
    """Steps that are compared."""
    is_resume_run: bool = False
    """Whether this run is the second one."""

    def covers(self, step: int) -> bool:
        """Tell whether both runs make `step`."""
        return self.step <= step < self.step + self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPlan:
    """What a run writes to disk; nothing by default."""

    id: str = ""
    """Node id of the item, noted in every checkpoint."""
    recipe: str = ""
    """File of the recipe, noted in every checkpoint."""
    folder: str | None = None
    """Folder for the run's checkpoints; None: no checkpoints."""
    rolling: bool = False
    """Whether checkpoints to resume from are written during the run."""
    check: ResumeCheck | None = None
    """The `resume` check; None: it is not made."""


NO_CHECKPOINTS = CheckpointPlan()


def clear(folder: Path, *, rolling: bool) -> None:
    """Remove the checkpoints of an earlier session, so that they are not taken for those of this one.

    `rolling`: remove those that a run could be resumed from, too.
    """
    for path in (folder,) if rolling else (folder / TRAINED, folder / LAST_GOOD):
        shutil.rmtree(path, ignore_errors=True)
