"""Starter recipes for trainers that a project has already: `python -m pytest_smoke init --hf` and `--lightning`."""

from __future__ import annotations

HF_RECIPE = """\
# A smoke run of a Hugging Face Trainer: a short training run that tells whether the full run is worth launching.
#   pytest --smoke @NAME@.smoke.yaml                     train and judge the smoke run
#   pytest --smoke-preflight @NAME@.smoke.yaml           read the full run's settings and check them; trains nothing
# Needs: pip install 'pytest-verdict-smoke[hf]'

# The function that returns your Trainer, built as for the full run, as `package.module:name` from pytest's rootdir.
hf: @PACKAGE@@NAME@_trainer:make_trainer

# Keyword arguments for the function. They are settings of the full run, too.
args:
  hidden_size: 32

# The full run is read from the trainer's TrainingArguments. What is written here, too, must agree. Only the number of
# devices cannot be read: a smoke run trains on one, and accumulates the batches of all.
full:
  world_size: 1
  from_scratch: true       # random initial weights: a loss that never improves is inconclusive

# The smoke run.
smoke:
  change: new-recipe       # what is new; it selects the mode: here constant, which stays at the peak rate
  max_steps: 200           # optimizer steps; 184 of them at 80 % or more of the peak rate count as evidence
  seed: 0                  # for weights, data order and dropout

# Requirements beyond a stable loss.
checks:
  accept:
    - max(grad_norm) < 100
    # - eval_loss < 3      # a metric of the trainer's own evaluate(), if it has an eval_dataset
"""

HF_MODULE = '''\
"""The trainer of @NAME@.smoke.yaml: a small GPT-2 with random weights that learns the standard library's own text."""

import pydoc_data.topics

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

LENGTH = 32
"""Bytes in a sample."""


class Topics(Dataset):
    """The help texts of Python's keywords, byte by byte."""

    def __init__(self) -> None:
        text = "".join(pydoc_data.topics.topics.values()).encode()
        self.bytes = torch.tensor(list(text[: 4000 * LENGTH]))

    def __len__(self) -> int:
        return len(self.bytes) // LENGTH

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        part = self.bytes[index * LENGTH : (index + 1) * LENGTH]
        return {"input_ids": part, "labels": part}


def make_trainer(hidden_size: int = 32) -> Trainer:
    """Replace this with your own model, data and arguments. Do not call `train()`: the smoke run does."""
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=256,
            n_positions=LENGTH,
            n_embd=hidden_size,
            n_layer=2,
            n_head=2,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    arguments = TrainingArguments(
        output_dir="trained",
        per_device_train_batch_size=16,
        gradient_accumulation_steps=2,
        learning_rate=3e-3,
        lr_scheduler_type="cosine",
        warmup_steps=20,
        max_grad_norm=1.0,
        weight_decay=0.1,
        num_train_epochs=20,
        report_to="none",
    )
    return Trainer(model=model, args=arguments, train_dataset=Topics())
'''

LIGHTNING_RECIPE = """\
# A smoke run of a LightningModule: a short training run that tells whether the full run is worth launching.
#   pytest --smoke @NAME@.smoke.yaml                     train and judge the smoke run
#   pytest --smoke-preflight @NAME@.smoke.yaml           read the full run's settings and check them; trains nothing
# Needs: pip install 'pytest-verdict-smoke[lightning]'

# The function that returns your module, (module, data), or (module, data, arguments of the Trainer as a dict), as
# `package.module:name` from pytest's rootdir.
lightning: @PACKAGE@@NAME@_module:make_module

# Keyword arguments for the function. They are settings of the full run, too.
args:
  hidden_size: 64

# The full run is read from module, data and arguments. What is written here, too, must agree.
full:
  from_scratch: true       # random initial weights: a loss that never improves is inconclusive

# The smoke run.
smoke:
  change: new-recipe       # what is new; it selects the mode: here constant, which stays at the peak rate
  max_steps: 200           # optimizer steps; 184 of them at 80 % or more of the peak rate count as evidence
  seed: 0                  # for weights, data order and dropout

# Requirements beyond a stable loss.
checks:
  accept:
    - val_accuracy > 0.6   # what validation_step logs
    - max(grad_norm) < 100
"""

LIGHTNING_MODULE = '''\
"""The module of @NAME@.smoke.yaml: a small classifier of noisy patterns."""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

CLASSES, PIXELS = 10, 64


def patterns(samples: int, seed: int) -> TensorDataset:
    """Return noisy images of ten fixed patterns, and their labels."""
    fixed = torch.rand(CLASSES, PIXELS, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (samples,), generator=generator)
    return TensorDataset(fixed[labels] + 0.9 * torch.randn(samples, PIXELS, generator=generator), labels)


class Classifier(pl.LightningModule):
    """Replace this with your own module."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(PIXELS, hidden_size), nn.GELU(), nn.Linear(hidden_size, CLASSES))

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = functional.cross_entropy(self.layers(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        self.log("val_accuracy", (self.layers(images).argmax(dim=1) == labels).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3)
        warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=20)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5000)
        scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, decay], milestones=[20])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def train_dataloader(self):
        return DataLoader(patterns(4096, seed=1), batch_size=64, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(patterns(512, seed=2), batch_size=256)


def make_module(hidden_size: int = 64):
    """Return the module, its data (None: it has its own) and the arguments of the full run's Trainer."""
    return Classifier(hidden_size), None, {"max_epochs": 80, "gradient_clip_val": 1.0}
'''
