"""Small tasks that really train, most of them with one fault."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES, CLASSES, WIDTH = 16, 4, 32


def device_of(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


class Teacher:
    """Classifies points as a fixed random teacher does; the cross-entropy falls quickly, then slowly."""

    def __init__(self, *, momentum: float | None = None, noise: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(7)
        self.teacher = torch.randn(FEATURES, CLASSES, generator=generator)
        self.momentum, self.noise = momentum, noise

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, WIDTH), nn.Tanh(), nn.Linear(WIDTH, CLASSES))

    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        if self.momentum is None:
            return torch.optim.AdamW(model.parameters(), lr=learning_rate)
        return torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=self.momentum)

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(1000 * seed + rank)
        while True:
            points = torch.randn(batch_size, FEATURES, generator=generator)
            yield {"points": points, "labels": (points @ self.teacher).argmax(1)}

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        return {"ce": F.cross_entropy(model(batch["points"]), batch["labels"])}

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        batch = next(self.batches(512, seed=99))
        predicted = model(batch["points"].to(device_of(model))).argmax(1).cpu()
        return {"val_accuracy": (predicted == batch["labels"]).float().mean().item()}


class Overflows(Teacher):
    """Squares its logits at a scale that overflows in fp16 once they have grown."""

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        logits = model(batch["points"])
        return {"ce": F.cross_entropy(logits, batch["labels"]), "size": 1e-5 * ((150 * logits) ** 2).mean()}


class RoundsToZero(Teacher):
    """Computes log(1 - p) directly: in bf16 a p of 0.999 rounds to 1."""

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        p = model(batch["points"]).softmax(-1).to(model(batch["points"]).dtype)
        wrong = 1 - F.one_hot(batch["labels"], CLASSES).to(p.dtype)
        return {"nll": -(wrong * (1 - p).log()).sum(-1).mean()}


class Breaks(Teacher):
    """Fails in a chosen way at a chosen batch."""

    def __init__(self, *, how: str, at_batch: int) -> None:
        super().__init__()
        self.how, self.left = how, at_batch

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        self.left -= 1
        if self.left == 0:
            print(f"about to {self.how}", flush=True)
            match self.how:
                case "raise":
                    raise RuntimeError("the labels file is empty")
                case "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "exit":
                    os._exit(3)
                case "hang":
                    time.sleep(3600)
                case "allocate":
                    torch.empty(2**60)
        return super().losses(model, batch)


class TwoTerms(Teacher):
    """Cross-entropy, and a term that brings the mean square of the logits to 1, times `scale`."""

    def __init__(self, *, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        logits = model(batch["points"])
        return {
            "ce": F.cross_entropy(logits, batch["labels"]),
            "size": self.scale * (logits.square().mean() - 1).abs(),
        }


class HalfOptimized(Teacher):
    """Leaves its first layer out of the optimizer."""

    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model[2].parameters(), lr=learning_rate)


class OwnScheduler(Teacher):
    """Steps a scheduler of its own after every loss."""

    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        optimizer = super().optimizer(model, learning_rate)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 200))
        return optimizer

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        if model.training:
            self.scheduler.step()
        return super().losses(model, batch)


class StopsTraining(Teacher):
    """Leaves gradients disabled from a chosen step on, without an error."""

    def __init__(self, *, at_step: int) -> None:
        super().__init__()
        self.at_step, self.step = at_step, 0

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        self.step += model.training
        if self.step > self.at_step:
            torch.set_grad_enabled(False)
        return super().losses(model, batch)


class IgnoredLabels(Teacher):
    """Ignores all labels, so that their mean is not defined."""

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        labels = torch.full_like(batch["labels"], -100)
        return {"ce": F.cross_entropy(model(batch["points"]), labels)}


class Shifts(Teacher):
    """Harder data from a chosen batch on: points near the origin, whose labels are less clear."""

    def __init__(self, *, at_batch: int, nearness: float = 0.2) -> None:
        super().__init__()
        self.at_batch = at_batch
        self.nearness = nearness

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        for number, batch in enumerate(super().batches(batch_size, seed=seed, rank=rank, world_size=world_size)):
            nearness = self.nearness if number >= self.at_batch else 1.0
            yield {**batch, "points": nearness * batch["points"]}


class Unlearns(Teacher):
    """Wrong labels from a chosen batch on: the model gets worse, and the probe batch shows it."""

    def __init__(self, *, at_batch: int) -> None:
        super().__init__()
        self.at_batch = at_batch

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        for number, batch in enumerate(super().batches(batch_size, seed=seed, rank=rank, world_size=world_size)):
            wrong = number >= self.at_batch
            yield {**batch, "labels": (batch["labels"] + wrong) % CLASSES}


class FromSources(Teacher):
    """Samples three sources with `weights`, whatever mix the recipe declares.

    `whole_batches`: every batch has samples of one source only.
    """

    def __init__(self, *, weights: Mapping[str, float], whole_batches: bool = False) -> None:
        super().__init__()
        self.names, self.weights = list(weights), torch.tensor([float(weight) for weight in weights.values()])
        self.whole_batches = whole_batches

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(2000 * seed + rank)
        for batch in super().batches(batch_size, seed=seed, rank=rank, world_size=world_size):
            picks = torch.multinomial(
                self.weights, 1 if self.whole_batches else batch_size, replacement=True, generator=generator
            )
            yield {**batch, "source": picks.expand(batch_size)}

    def sources(self, batch: Any) -> list[str]:
        return [self.names[pick] for pick in batch["source"].tolist()]


class Overfits(Teacher):
    """Few points, a third of them mislabelled: after the rule, the model memorizes the mistakes."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(11)
        self.points = torch.randn(256, FEATURES, generator=generator)
        wrong = torch.rand(256, generator=generator) < 0.35
        guesses = torch.randint(CLASSES, (256,), generator=generator)
        self.labels = torch.where(wrong, guesses, (self.points @ self.teacher).argmax(1))

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 256), nn.Tanh(), nn.Linear(256, CLASSES))

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(1000 * seed + rank)
        while True:
            drawn = torch.randint(len(self.points), (batch_size,), generator=generator)
            yield {"points": self.points[drawn], "labels": self.labels[drawn]}

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        points = torch.randn(2000, FEATURES, generator=torch.Generator().manual_seed(5))
        right = model(points.to(device_of(model))).argmax(1).cpu() == (points @ self.teacher).argmax(1)
        return {"val_accuracy": right.float().mean().item()}


class Narrow(Teacher):
    """One hidden unit for four classes: the accuracy stays below its target."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 1), nn.Tanh(), nn.Linear(1, CLASSES))


class Recites(Teacher):
    """Sequences whose next symbol depends on the last three, of which the model sees two.

    With the reference prefix it is better than chance; from its own output it never generates a whole sequence.
    """

    SYMBOLS, LENGTH, ITEMS = 12, 24, 200

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Embedding(self.SYMBOLS, 16), nn.Flatten(-2), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, self.SYMBOLS)
        )

    def sequences(self, count: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(self.SYMBOLS, (count, 3), generator=generator)
        rare = torch.rand((count, self.LENGTH), generator=generator) < 0.4
        for at in range(3, self.LENGTH):
            following = (rows[:, -1] + 5 * rows[:, -2] + 1) % self.SYMBOLS
            following = torch.where(rare[:, at], (following + rows[:, -3] + 1) % self.SYMBOLS, following)
            rows = torch.cat([rows, following[:, None]], 1)
        return rows

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(1000 * seed + rank)
        while True:
            yield self.sequences(batch_size, generator)

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        pairs = batch.unfold(1, 2, 1)[:, 1:-1]
        return {"ce": F.cross_entropy(model(pairs).flatten(0, 1), batch[:, 3:].flatten())}

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        gold = self.sequences(self.ITEMS, torch.Generator().manual_seed(5)).to(device_of(model))
        generated = gold[:, :3]
        for _ in range(3, self.LENGTH):
            generated = torch.cat([generated, model(generated[:, -2:]).argmax(-1)[:, None]], 1)
        return {
            "latent_nll": self.losses(model, gold)["ce"].item(),
            "latent_em": (generated == gold).all(1).float().mean().item(),
        }


class Exportable(Teacher):
    """A task whose model can be exported."""

    labels: ClassVar = [f"class {number}" for number in range(CLASSES)]

    def example_inputs(self) -> tuple[Tensor, ...]:
        return (next(self.batches(4, seed=7))["points"],)


class BranchesOnData(Exportable):
    """Its forward branches on the data, which an exported graph cannot."""

    class Model(nn.Sequential):
        def forward(self, points: Tensor) -> Tensor:
            if points.mean() > 10:
                return super().forward(points / 10)
            return super().forward(points)

    def model(self) -> nn.Module:
        return self.Model(*super().model())


class ExportsAnotherPath(Exportable):
    """Its forward leaves out a normalization when it is exported."""

    class Model(nn.Sequential):
        def forward(self, points: Tensor) -> Tensor:
            logits = super().forward(points)
            return logits if torch.compiler.is_exporting() else logits / logits.norm(dim=-1, keepdim=True).clamp(min=1)

    def model(self) -> nn.Module:
        return self.Model(*super().model())


class AddsNoise(Exportable):
    """Adds noise in evaluation mode, too."""

    class Model(nn.Sequential):
        def forward(self, points: Tensor) -> Tensor:
            return super().forward(points + 0.01 * torch.randn_like(points))

    def model(self) -> nn.Module:
        return self.Model(*super().model())


class Coarse(Exportable):
    """One weight is so large that int8 rounds the others of its matrix to 0."""

    class Model(nn.Sequential):
        def forward(self, points: Tensor) -> Tensor:
            return super().forward(F.pad(points, (0, 1)))

    def model(self) -> nn.Module:
        model = self.Model(nn.Linear(FEATURES + 1, WIDTH), nn.Tanh(), nn.Linear(WIDTH, CLASSES))
        with torch.no_grad():
            model[0].weight[0, -1] = 1000.0  # of a feature that is always 0, so it only stretches the range
        return model


class KilledWhenQuantized(Exportable):
    """Its process is killed while the quantized model is evaluated."""

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        if "forward" in vars(model):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().evaluate(model)


class Unsaved(Exportable):
    """Keeps the scale of its inputs in a non-persistent buffer, which is in no checkpoint."""

    class Model(nn.Sequential):
        scale: Tensor

        def forward(self, points: Tensor) -> Tensor:
            if self.training:
                self.scale.lerp_(points.std(), 0.05)
            return super().forward(points / self.scale)

    def model(self) -> nn.Module:
        model = self.Model(*super().model())
        model.register_buffer("scale", torch.tensor(4.0), persistent=False)
        return model


class Padded(Teacher):
    """The mean loss of the points that are not padding, in batches with very different numbers of them."""

    def __init__(self, *, counted: bool) -> None:
        super().__init__()
        if counted:
            self.counts = lambda batch: batch["real"].sum().item()

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(seed)
        for batch in super().batches(batch_size, seed=seed, rank=rank, world_size=world_size):
            density = torch.rand((), generator=generator)
            real = torch.rand(batch_size, generator=generator) < torch.linspace(0.1, 1, batch_size) * density
            yield {**batch, "real": real | (torch.arange(batch_size) % 16 == 0)}

    def largest_batch(self) -> Any:
        return next(self.batches(64, seed=8))

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        each = F.cross_entropy(model(batch["points"]), batch["labels"], reduction="none")
        return {"ce": (each * batch["real"]).sum() / batch["real"].sum()}


class Contrasts(Teacher):
    """A contrastive loss: each point is compared with the others of its micro-batch."""

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        logits = model(batch["points"])
        alike = F.normalize(logits) @ F.normalize(batch["points"] @ self.teacher.to(logits.device)).T
        own = torch.arange(len(logits), device=logits.device)
        return {**super().losses(model, batch), "contrast": F.cross_entropy(alike, own)}


class HalfBatch(Teacher):
    """Yields half as many points as it is asked for."""

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        return super().batches(batch_size // 2, seed=seed, rank=rank, world_size=world_size)


class FixedSize(Teacher):
    """Yields 64 points, whatever batch size it is asked for."""

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        return super().batches(64, seed=seed, rank=rank, world_size=world_size)


class SameRanks(Teacher):
    """Ignores the rank: every device trains on the same points, in another order."""

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        for batch in super().batches(batch_size, seed=seed):
            yield {name: values.roll(rank, 0) for name, values in batch.items()}


class OneBatch(Teacher):
    """Seeds its generator again for every batch."""

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        while True:
            yield next(super().batches(batch_size, seed=seed, rank=rank))


class Truncated(Teacher):
    """Labels every point four times, as tokens are; long samples were cut before their first label."""

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        long = torch.arange(batch_size) % 4 == 0
        for batch in super().batches(batch_size, seed=seed, rank=rank, world_size=world_size):
            labels = batch["labels"][:, None].expand(-1, 4).clone()
            labels[long & (batch["points"][:, 0] > 0)] = -100
            yield {"points": batch["points"], "labels": labels, "long": long}

    def sources(self, batch: Any) -> list[str]:
        return ["long" if long else "short" for long in batch["long"].tolist()]

    def counts(self, batch: Any) -> float:
        return (batch["labels"] != -100).sum().item()

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        logits = model(batch["points"])[:, None].expand(-1, 4, -1)
        return {"ce": F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())}

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        return {}


class Shortened(Teacher):
    """Labels every point as often as 256 labels allow: with more points in a batch, each has fewer labels."""

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        for batch in super().batches(batch_size, seed=seed, rank=rank, world_size=world_size):
            yield {**batch, "labels": batch["labels"][:, None].expand(-1, 256 // batch_size).clone()}

    def counts(self, batch: Any) -> float:
        return batch["labels"].numel()

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        labels = batch["labels"]
        logits = model(batch["points"])[:, None].expand(-1, labels.shape[1], -1)
        return {"ce": F.cross_entropy(logits.flatten(0, 1), labels.flatten())}

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        return {}


class Edited(Teacher):
    """Its module is edited while it trains: it imports a file that it made itself, and removes it at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.file = Path(__file__).parent / "__pycache__" / f"edited_{os.getpid()}.py"
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_text("SCALE = 1.0\n")
        spec = importlib.util.spec_from_file_location(self.file.stem, self.file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[self.file.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.scale: float = module.SCALE

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        return {"ce": self.scale * super().losses(model, batch)["ce"]}

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        self.file.unlink(missing_ok=True)
        return super().evaluate(model)


class Moded(Teacher):
    """A model with batch norm and dropout, whose `losses` leaves it in evaluation mode, or only its batch norm.

    Two biases share their memory, as if they were tied.
    """

    def __init__(self, *, evaluates: str) -> None:
        super().__init__()
        self.evaluates = evaluates

    def model(self) -> nn.Module:
        first, last = nn.Linear(FEATURES, WIDTH), nn.Linear(WIDTH, WIDTH)
        last.bias.data = first.bias.data
        return nn.Sequential(
            first, nn.BatchNorm1d(WIDTH), nn.Tanh(), last, nn.Tanh(), nn.Dropout(0.05), nn.Linear(WIDTH, CLASSES)
        )

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        (model if self.evaluates == "model" else model[1]).eval()
        return super().losses(model, batch)


class TooLarge(Teacher):
    """Its largest batch needs more memory than any machine has."""

    def largest_batch(self) -> Any:
        return {**next(self.batches(8, seed=0)), "padding": 2**50}

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        torch.empty(batch.get("padding", 1))
        return super().losses(model, batch)


class Ascends(Teacher):
    """Follows the gradient upwards: a sign is wrong."""

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        ce = super().losses(model, batch)["ce"]
        return {"ce": 2 * ce.detach() - ce}
