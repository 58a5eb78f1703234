"""Judge logs written by real trainers: Hugging Face `Trainer`, Lightning's `CSVLogger`, TensorBoard.

Each trains twice, with a healthy and with a diverging learning rate, in one subprocess, so that imports and warnings
stay out of the pytest process. None needs a model hub.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

STEPS = 200
WARMUP_STEPS = 20
TRAIN_SECONDS = 240
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
ONE_CORE = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def hugging_face(folder: Path, rate: float) -> None:
    """Train a 1-layer GPT-2 from scratch to count modulo 16, where each token jumps with a probability of 1/8."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

    set_seed(0)
    start, jumps = torch.randint(16, (512, 1)), torch.rand(512, 32) < 1 / 8
    tokens = (start + torch.where(jumps, torch.randint(16, (512, 32)), 1).cumsum(1)) % 16
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=16,
            n_positions=32,
            n_embd=32,
            n_layer=1,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
            use_cache=False,
        )
    )
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=32,
        learning_rate=rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=WARMUP_STEPS,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        seed=0,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=[{"input_ids": row, "labels": row} for row in tokens])
    trainer.train()
    trainer.save_state()


def lightning(folder: Path, rate: float) -> None:
    """Train with `CSVLogger`: step and epoch losses, a validation loss and the learning rate in sparse rows."""
    import lightning as pl
    import torch
    from lightning.pytorch.callbacks import LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger

    class Regression(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = network()

        def training_step(self, batch: Any, _: int) -> Any:
            loss = torch.nn.functional.mse_loss(self.layers(batch[0]), batch[1])
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", torch.nn.functional.mse_loss(self.layers(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=rate)
            warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARMUP_STEPS))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": warmup, "interval": "step"}}

    pl.seed_everything(0, verbose=False)
    data = torch.utils.data.TensorDataset(*samples(4096))
    batches = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
    held_out = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*samples(256)), batch_size=64)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        log_every_n_steps=1,
        logger=CSVLogger(folder, name="", version=""),
        callbacks=[LearningRateMonitor("step")],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Regression(), batches, held_out)


def tensorboard(folder: Path, rate: float) -> None:
    """Train a plain loop with `SummaryWriter`: one tag each for training loss, validation loss and learning rate."""
    import torch
    from torch.utils.tensorboard import SummaryWriter

    torch.manual_seed(0)
    model, held_out = network(), samples(256)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    with SummaryWriter(str(folder)) as writer:
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / WARMUP_STEPS)
            inputs, targets = samples(64)
            loss = torch.nn.functional.mse_loss(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            writer.add_scalar("Loss/train", loss, step)
            writer.add_scalar("lr", optimizer.param_groups[0]["lr"], step)
            if step % 50 == 0:
                with torch.no_grad():
                    writer.add_scalar("Loss/val", torch.nn.functional.mse_loss(model(held_out[0]), held_out[1]), step)


def network() -> Any:
    """Return a perceptron with 8 inputs."""
    import torch

    return torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))


def samples(count: int) -> tuple[Any, Any]:
    """Return inputs and the sums of their sines, with noise of standard deviation 0.3."""
    import torch

    inputs = torch.randn(count, 8)
    return inputs, inputs.sin().sum(1, keepdim=True) + 0.3 * torch.randn(count, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A library and how to train with it."""

    train: Callable[[Path, float], None]
    needs: tuple[str, ...]
    writes: str
    """The log in the run's folder; empty if the folder is the log."""
    healthy_rate: float
    diverging_rate: float


LIBRARIES = {
    "hugging_face": Library(
        train=hugging_face,
        needs=("transformers", "accelerate"),
        writes="trainer_state.json",
        healthy_rate=3e-3,
        diverging_rate=1.0,
    ),
    "lightning": Library(
        train=lightning, needs=("lightning",), writes="metrics.csv", healthy_rate=0.02, diverging_rate=3.0
    ),
    "tensorboard": Library(train=tensorboard, needs=("tensorboard",), writes="", healthy_rate=0.02, diverging_rate=3.0),
}


def train(name: str, folder: Path) -> None:
    """Run both trainings of a library in `folder`."""
    command = [sys.executable, __file__, name, str(folder)]
    env = os.environ | OFFLINE | ONE_CORE
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=TRAIN_SECONDS)
    assert done.returncode == 0, done.stderr[-4000:]


def judge(log: Path) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit status and the JSON lines of `judge`."""
    command = [sys.executable, "-m", "pytest_smoke", "judge", "--format", "json", str(log)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_healthy_run_of_a_trainer_promotes_and_a_diverging_one_does_not(name: str, tmp_path: Path) -> None:
    library = LIBRARIES[name]
    if missing := [module for module in library.needs if find_spec(module) is None]:
        pytest.skip(f"{' and '.join(missing)} not installed: this trainer cannot write its log")
    train(name, tmp_path)
    status, (healthy,) = judge(tmp_path / "healthy" / library.writes)
    assert (status, healthy["verdict"], healthy["points"]) == (0, "promote", STEPS), healthy
    assert not [note for note in healthy["notes"] if "no learning rate" in note]
    status, (diverging,) = judge(tmp_path / "diverging" / library.writes)
    assert (status, diverging["verdict"]) == (3, "unstable"), diverging
    assert 0 < diverging["step"] < STEPS - 1
    status, both = judge(tmp_path)
    assert status == 3
    assert [line["verdict"] for line in both] == ["unstable", "promote"], both  # sorted by name


if __name__ == "__main__":
    _, wanted, where = sys.argv
    chosen = LIBRARIES[wanted]
    for kind, kind_rate in (("healthy", chosen.healthy_rate), ("diverging", chosen.diverging_rate)):
        chosen.train(Path(where) / kind, kind_rate)
