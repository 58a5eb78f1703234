"""A small task in two stages: an encoder trains on easy points, then on hard ones; then a low-rank adapter trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.controls.tasks import CLASSES, FEATURES, WIDTH, Teacher, device_of

NEARNESS = {"text": 1.0, "latent": 0.3, "": 0.15}
"""Scale of the points by phase (none in stage B). Near the origin their labels are less clear, so the loss jumps."""
RANK = 4


class Adapter(nn.Module):
    """A low-rank addition to the head, initialized to zero."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Linear(WIDTH, RANK, bias=False)
        self.up = nn.Linear(RANK, CLASSES, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.up(self.down(hidden))
        return out


class TwoStages(Teacher):
    """Stage A trains an encoder under a frozen head, stage B an adapter over both.

    `harder_after`: batches of stage B after which its points get harder.
    """

    def __init__(self, *, harder_after: int | None = None) -> None:
        super().__init__()
        self.harder_after = harder_after
        self.stage, self.phase = "", "text"
        self.batches_of_b = 0

    def model(self) -> nn.Module:
        return nn.ModuleDict({"encoder": nn.Linear(FEATURES, WIDTH), "head": nn.Linear(WIDTH, CLASSES)})

    def on_stage_start(self, model: nn.Module, stage: str, phase: str | None) -> None:
        self.stage, self.phase = stage, phase or ""
        if stage == "B":
            model["adapter"] = Adapter()

    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=learning_rate)

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        for batch in super().batches(batch_size, seed=seed, rank=rank, world_size=world_size):
            nearness = NEARNESS[self.phase]
            if seed == 0 and self.stage == "B":
                self.batches_of_b += 1
                if self.harder_after is not None and self.batches_of_b > self.harder_after:
                    nearness = 0.02
            yield {**batch, "points": nearness * batch["points"]}

    def logits(self, model: nn.Module, points: Tensor) -> Tensor:
        hidden = model["encoder"](points).tanh()
        out: Tensor = model["head"](hidden)
        return out + model["adapter"](hidden) if "adapter" in model else out

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        logits = self.logits(model, batch["points"])
        terms = {"ce": F.cross_entropy(logits, batch["labels"])}
        return terms | ({"size": logits.square().mean()} if self.stage == "B" else {})

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        batch = next(Teacher.batches(self, 512, seed=99))
        logits = self.logits(model, batch["points"].to(device_of(model))).cpu()
        return {"val_accuracy": (logits.argmax(1) == batch["labels"]).float().mean().item()}


class ChangesFrozen(TwoStages):
    """Changes the frozen head without the optimizer."""

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        with torch.no_grad():
            model["head"].bias.add_(1e-6)
        return super().losses(model, batch)
