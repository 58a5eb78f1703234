"""LightningModules for the tests: a small classifier of digits of 8 x 8 pixels, which are made in torch."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

SAMPLES = 1664
ARGUMENTS: dict[str, Any] = {"max_epochs": 100, "accumulate_grad_batches": 2, "gradient_clip_val": 1.0}


def digits(samples: int = SAMPLES, seed: int = 1) -> TensorDataset:
    """Return noisy images of ten fixed patterns, and their labels."""
    patterns = torch.rand(10, 64, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (samples,), generator=generator)
    return TensorDataset(patterns[labels] + 0.7 * torch.randn(samples, 64, generator=generator), labels)


def loader(**changes: Any) -> DataLoader[Any]:
    return DataLoader(digits(), **{"batch_size": 32, "shuffle": True, **changes})


class Classifier(pl.LightningModule):
    def __init__(self, rate: float = 3e-3, penalty: float = 0.01) -> None:
        super().__init__()
        self.rate, self.penalty = rate, penalty
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, 10))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self.layers(images)
        ce = functional.cross_entropy(logits, labels)
        penalty = self.penalized(logits)
        self.log_dict({"train/ce_loss": ce, "penalty_loss": penalty})
        loss = ce + self.penalty * penalty
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def penalized(self, logits: Tensor) -> Tensor:
        return logits.square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        logits = self.layers(images)
        self.log("val_accuracy", (logits.argmax(1) == labels).float().mean())

    def val_dataloader(self) -> Any:
        return DataLoader(digits(200, seed=2), batch_size=100)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.rate)
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.05, total_iters=20)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.estimated_stepping_batches - 20)
        scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, decay], milestones=[20])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def classifier() -> Any:
    """Return what a user has, with callbacks that need a logger and that stop and save."""
    callbacks = [
        EarlyStopping("val_accuracy", patience=1),
        ModelCheckpoint(monitor="val_accuracy"),
        LearningRateMonitor(),
    ]
    return Classifier(), loader(), {**ARGUMENTS, "callbacks": callbacks, "logger": True, "devices": 1}


def plain() -> Any:
    return Classifier(), loader(), ARGUMENTS


class Diverging(Classifier):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=30.0, momentum=0.9)


def diverging() -> Any:
    return Diverging(), loader(), {"max_epochs": 100}


class Decaying(Classifier):
    def on_train_batch_end(self, *args: Any) -> None:
        for group in self.optimizers().param_groups:
            group["lr"] *= 0.97


def decaying() -> Any:
    return Decaying(), loader(), ARGUMENTS


class OwnScheduler(Classifier):
    def on_train_start(self) -> None:
        self.own = torch.optim.lr_scheduler.ExponentialLR(self.optimizers(use_pl_optimizer=False), gamma=0.99)

    def on_train_batch_end(self, *args: Any) -> None:
        self.own.step()


def own_scheduler() -> Any:
    return OwnScheduler(), loader(), ARGUMENTS


class Breaking(Classifier):
    def penalized(self, logits: Tensor) -> Tensor:
        broken = self.training and self.trainer.global_step >= 20
        return logits.square().mean() * (float("nan") if broken else 1.0)


def breaks() -> Any:
    return Breaking(), loader(), ARGUMENTS


class Shrinking(IterableDataset[Any]):
    """A stream of batches that become smaller."""

    def __iter__(self) -> Any:
        images, labels = digits().tensors
        for first in range(0, SAMPLES - 32, 32):
            size = 32 if first < 640 else 16
            yield images[first : first + size], labels[first : first + size]


def shrinking() -> Any:
    return Classifier(), DataLoader(Shrinking(), batch_size=None), {"max_steps": 2000, "accumulate_grad_batches": 2}


class Data(pl.LightningDataModule):
    def train_dataloader(self) -> Any:
        return loader()


class PerEpoch(Classifier):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.rate)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=30)]


def datamodule() -> Any:
    return PerEpoch(), Data(), {"max_epochs": 100, "devices": 4, "strategy": "ddp"}


class OneCycle(Classifier):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-5)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=1000, pct_start=0.02)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

    def train_dataloader(self) -> Any:
        return loader()


def one_cycle() -> Any:
    return OneCycle()


class Manual(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


def manual() -> Any:
    return Manual(), loader()


class TwoOptimizers(Classifier):
    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.layers[0].parameters(), 0.1), torch.optim.SGD(self.layers[3].parameters(), 0.1)]


def two_optimizers() -> Any:
    return TwoOptimizers(), loader()


def returns_trainer() -> Any:
    return pl.Trainer(logger=False, enable_checkpointing=False)


def no_data() -> Any:
    return Classifier()


def sharded() -> Any:
    return Classifier(), loader(), {"strategy": "fsdp", "devices": 8}


def raises() -> Any:
    raise FileNotFoundError("digits.csv")


class Stops(pl.Callback):
    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        trainer.should_stop = trainer.global_step >= 20


def stops() -> Any:
    return Classifier(), loader(), {**ARGUMENTS, "callbacks": Stops()}


class EvalMode(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.eval()
        return super().training_step(batch, batch_idx)


def eval_mode() -> Any:
    return EvalMode(), loader(), ARGUMENTS


class Skips(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if batch_idx % 7 == 6 else super().training_step(batch, batch_idx)


def skips() -> Any:
    return Skips(), loader(), ARGUMENTS


class SeveralLoaders(Classifier):
    """Has two validation loaders, no `batch_idx`, and a warm-up whose scheduler steps every tenth step."""

    def training_step(self, batch: Any) -> Tensor:
        return super().training_step(batch, 0)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        super().validation_step(batch, batch_idx)

    def val_dataloader(self) -> Any:
        return [super(SeveralLoaders, self).val_dataloader() for _ in range(2)]

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.rate)
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=1)
        return [optimizer], [{"scheduler": warm, "interval": "step", "frequency": 10}]


def several_loaders() -> Any:
    averaging = StochasticWeightAveraging(1e-2)
    return [SeveralLoaders(), loader(), {**ARGUMENTS, "callbacks": averaging, "limit_train_batches": 8}]


def two_training_loaders() -> Any:
    return Classifier(), {"first": loader(), "second": loader()}


def unfreezes() -> Any:
    return Classifier(), loader(), {**ARGUMENTS, "callbacks": [BackboneFinetuning()]}


def endless() -> Any:
    return Classifier(), loader(), {"max_epochs": -1}
