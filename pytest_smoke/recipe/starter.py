"""Write a commented starter recipe and what trains in it, small enough to run as they are: `init`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pytest_smoke.files import write_atomic
from pytest_smoke.recipe.model import Trainer
from pytest_smoke.recipe.trainer_starters import HF_MODULE, HF_RECIPE, LIGHTNING_MODULE, LIGHTNING_RECIPE
from pytest_smoke.roots import root_above

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def write_starter(folder: Path, name: str, trainer: Trainer = "task") -> list[Path]:
    """Write `NAME.smoke.yaml` and its `NAME_task.py`, or what else trains, into `folder`, and return their paths.

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
    recipe, ending, code = STARTERS[trainer]
    texts = {folder / f"{name}.smoke.yaml": recipe, folder / f"{name}_{ending}.py": code}
    existing = [str(path) for path in texts if os.path.lexists(path)]
    if existing:
        verb = "exists" if len(existing) == 1 else "exist"
        raise FileExistsError(f"{' and '.join(existing)} already {verb}; init overwrites nothing, choose another name")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    for path, text in reversed(texts.items()):
        package = _package_of(folder)
        text = text.replace("@PACKAGE@", package).replace("@FOLDER@", package.replace(".", "/"))
        text = text.replace("@NAME@", name).replace("@CLASS@", class_name)
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

COMMAND_RECIPE = """\
# A smoke run of your own training script: a short run that tells whether the full run is worth launching.
#   pytest --smoke @NAME@.smoke.yaml                     train and judge the smoke run
#   pytest --smoke-preflight @NAME@.smoke.yaml           compare its settings with the full run; trains nothing
# Write 1.0e-3 instead of 1e-3, which is text in YAML. Unknown keys are errors, so that typos are found.

# Program and arguments, without a shell. {learning_rate} and other placeholders are settings of the smoke run;
# {python} is the interpreter that runs pytest. Your own launcher works as well: [torchrun, train.py, ...].
command:
  - "{python}"
  - @FOLDER@@NAME@_train.py
  - --lr={learning_rate}
  - --lr-schedule={lr_schedule}
  - --warmup-steps={warmup_steps}
  - --max-steps={max_steps}
  - --batch-size={batch_size}
  - --clip={grad_clip_norm}
  - --seed={seed}

# What the command prints is its log: step, loss, learning rate. Or name a file that it writes: `log: out/train.log`.
log: stdout

# The full run that you want to launch. The smoke run uses the same settings, except for length and schedule.
full:
  batch_size: 256          # samples in one micro-batch on one device
  learning_rate: 3.0e-3    # peak, reached at the end of the warmup
  lr_schedule: cosine      # schedule after the warmup
  warmup_steps: 60         # optimizer steps of linear warmup from 0
  max_steps: 20000         # optimizer steps of the full run
  grad_clip_norm: 1.0      # largest gradient norm
  from_scratch: true       # random initial weights: a loss that never improves is inconclusive

# The smoke run.
smoke:
  change: new-recipe       # what is new; it selects the mode: here constant, which stays at the peak rate
  max_steps: 600           # optimizer steps; 552 of them at 80 % or more of the peak rate count as evidence
  seed: 0                  # for weights, data order and dropout

# Requirements beyond a stable loss.
checks:
  accept:
    - max(grad_norm) < 100 # any number that the log has
"""

SCRIPT = '''\
"""The training script of @NAME@.smoke.yaml: a small classifier that learns from a fixed random teacher."""

import argparse
import math

import torch
from torch import nn
from torch.nn import functional

FEATURES = 16
CLASSES = 4

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=3e-3)
parser.add_argument("--lr-schedule", choices=["constant", "cosine"], default="cosine")
parser.add_argument("--warmup-steps", type=int, default=60)
parser.add_argument("--max-steps", type=int, default=20000)
parser.add_argument("--batch-size", type=int, default=256)
parser.add_argument("--clip", type=float, default=1.0)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()


def rate(step: int) -> float:
    """Return the multiplier of the peak learning rate."""
    if step < args.warmup_steps:
        return step / args.warmup_steps
    if args.lr_schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - args.warmup_steps) / (args.max_steps - args.warmup_steps)))


torch.manual_seed(args.seed)
torch.set_num_threads(1)
teacher = torch.randn(FEATURES, CLASSES, generator=torch.Generator().manual_seed(20))
model = nn.Sequential(nn.Linear(FEATURES, 64), nn.GELU(), nn.Linear(64, CLASSES))
optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
for step in range(args.max_steps):
    features = torch.randn(args.batch_size, FEATURES)
    labels = torch.multinomial((torch.tanh(features) @ teacher).softmax(dim=1), 1).squeeze(1)
    optimizer.param_groups[0]["lr"] = args.lr * rate(step)
    loss = functional.cross_entropy(model(features), labels)
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), args.clip)
    optimizer.step()
    print(f"step {step}: loss {loss.item():.5f}, lr {args.lr * rate(step):.3e}, grad_norm {norm.item():.4f}")
'''

STARTERS: dict[Trainer, tuple[str, str, str]] = {
    "task": (RECIPE, "task", TASK),
    "hf": (HF_RECIPE, "trainer", HF_MODULE),
    "lightning": (LIGHTNING_RECIPE, "module", LIGHTNING_MODULE),
    "command": (COMMAND_RECIPE, "train", SCRIPT),
}
"""Recipe, ending of the module's name and code, by what trains."""
