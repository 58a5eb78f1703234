"""Write a commented starter recipe and its task, small enough to run as they are: `python -m pytest_smoke init`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pytest_smoke.files import write_atomic
from pytest_smoke.roots import root_above

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def write_starter(folder: Path, name: str) -> list[Path]:
    """Write `NAME.smoke.yaml` and `NAME_task.py` into `folder`, and return their paths.

    The task's import path starts at pytest's rootdir. Raises ValueError for a name that cannot be part of a module's
    name, FileExistsError if one of the files exists (then nothing is written), NotADirectoryError if `folder` is not a
    folder.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the name {name!r} cannot be part of a Python module's name; use a-z, 0-9 and _, starting with a letter"
        )
    if not folder.is_dir():
        raise NotADirectoryError(f"there is no folder {folder}; create it first")
    texts = {folder / f"{name}.smoke.yaml": RECIPE, folder / f"{name}_task.py": TASK}
    existing = [str(path) for path in texts if os.path.lexists(path)]
    if existing:
        verb = "exists" if len(existing) == 1 else "exist"
        raise FileExistsError(f"{' and '.join(existing)} already {verb}; init overwrites nothing, choose another name")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    for path, text in reversed(texts.items()):
        text = text.replace("@PACKAGE@", _package_of(folder)).replace("@NAME@", name).replace("@CLASS@", class_name)
        write_atomic(path, text)
    return list(texts)


def _package_of(folder: Path) -> str:
    """Return the package prefix of modules in `folder`, `recipes.`; empty in pytest's rootdir or if there is none."""
    folder = folder.resolve()
    root = root_above(folder)
    return "".join(f"{part}." for part in folder.relative_to(root).parts) if root else ""


RECIPE = """\
# A smoke run: a short training run that tells whether the full run is worth launching.
#   pytest --smoke @NAME@.smoke.yaml                     train and judge the smoke run
#   pytest --smoke-preflight @NAME@.smoke.yaml           compare its settings with the full run; trains nothing
# Write 1.0e-3 instead of 1e-3, which is text in YAML. Unknown keys are errors, so that typos are found.

# The class with your model, data and losses, as `package.module:Name`, imported from pytest's rootdir.
# In a subfolder the path starts with the folder's name: `recipes.@NAME@_task:@CLASS@`.
task: @PACKAGE@@NAME@_task:@CLASS@

# Keyword arguments for the class. They are settings of the full run, too.
args:
  hidden_size: 64

# The full run that you want to launch. The smoke run uses the same settings, except for length and schedule.
full:
  batch_size: 256          # samples in one micro-batch on one device
  grad_accum_steps: 4      # micro-batches in one optimizer step
  world_size: 1            # devices; effective batch = 256 x 4 x 1 = 1,024 samples
  learning_rate: 3.0e-3    # peak, reached at the end of the warmup
  lr_schedule: cosine      # schedule after the warmup
  warmup_steps: 60         # optimizer steps of linear warmup from 0
  max_steps: 20000         # optimizer steps of the full run
  precision: fp32          # or bf16, fp16
  grad_clip_norm: 1.0      # largest gradient norm; leave it out for no clipping
  from_scratch: true       # random initial weights: a loss that never improves is inconclusive

# The smoke run.
smoke:
  change: new-recipe       # what is new; it selects the mode: here constant, which stays at the peak rate
  # mode: constant         # or select the mode yourself: constant, long-tail or wiring
  max_steps: 600           # optimizer steps; 552 of them at 80 % or more of the peak rate count as evidence
  seed: 0                  # for weights, data order and dropout
  evaluate_every_steps: 200

# Requirements beyond a stable loss.
checks:
  accept:
    - val_accuracy > 0.6   # last value of a metric
    - max(grad_norm) < 100

# The same smoke run with one setting changed, as `@NAME@.smoke.yaml::constant[wide]`. Remove the # to run it, too.
# ablate:
#   wide: {args.hidden_size: 128}

# What the machine must have; on other machines the smoke run is skipped.
requires:
  device: any              # or cpu, cuda, mps
"""

TASK = '''\
"""The task of @NAME@.smoke.yaml: a small classifier that learns from a fixed random teacher."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

FEATURES = 16
CLASSES = 4
Batch = tuple[Tensor, Tensor]


class @CLASS@:
    """Replace the methods with your own model, data and losses. pytest_smoke provides the training loop."""

    def __init__(self, hidden_size: int = 64) -> None:
        self.hidden_size = hidden_size
        # The teacher has its own generator, so that the task does not depend on the seed of the smoke run.
        fixed = torch.Generator().manual_seed(20)
        self.teacher = torch.randn(FEATURES, CLASSES, generator=fixed)
        self.validation = self.sample(2048, fixed)

    def model(self) -> nn.Module:
        """Return a new model with random weights. The global seed is set before the call."""
        return nn.Sequential(
            nn.Linear(FEATURES, self.hidden_size),
            nn.GELU(),
            nn.Linear(self.hidden_size, self.hidden_size),
            nn.GELU(),
            nn.Linear(self.hidden_size, CLASSES),
        )

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
        """Yield micro-batches without end. Each rank has its own samples."""
        generator = torch.Generator().manual_seed(seed * world_size + rank)
        while True:
            yield self.sample(batch_size, generator)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss terms by name, each a mean over the batch. Several terms are weighted and summed."""
        features, labels = batch
        return {"ce": functional.cross_entropy(model(features), labels)}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return metrics for `checks.accept`, computed on samples that are not trained on."""
        device = next(model.parameters()).device
        features, labels = (part.to(device) for part in self.validation)
        with torch.no_grad():
            predicted = model(features).argmax(dim=1)
        return {"val_accuracy": (predicted == labels).float().mean().item()}

    def sample(self, count: int, generator: torch.Generator) -> Batch:
        """Return random features (count x FEATURES), and labels sampled from the teacher's class probabilities."""
        features = torch.randn(count, FEATURES, generator=generator)
        scores = torch.tanh(features) @ self.teacher
        labels = torch.multinomial(scores.softmax(dim=1), 1, generator=generator).squeeze(1)
        return features, labels
'''
