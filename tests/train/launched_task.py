"""A small task for runs with several processes: it runs one line of `fault` on one rank, from its 20th batch on."""

from __future__ import annotations

import os
import pathlib  # noqa: F401  # for faults
import time  # noqa: F401  # for faults
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

FAULT_BATCH = 20
"""Batch of a rank in whose loss its fault acts."""
ITEMS = 5
"""Items of a batch are fewer than this."""


class Regression:
    """Fits a line in fp64. A batch has 0 to 4 items that count, so that ranks have different numbers of them."""

    def __init__(self, *, fault: str = "", rank: int = 1, same_samples: bool = False, sharded: bool = False) -> None:
        self.fault, self.rank, self.same_samples = fault, rank, same_samples
        self.drawn = 0
        self.sharded = sharded

    def model(self) -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
        if self.sharded:
            from torch.distributed.fsdp import fully_shard

            fully_shard(model)
        return model

    def optimizer(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        self.made = torch.optim.AdamW(model.parameters(), lr=learning_rate)
        return self.made

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(1000 * seed + (0 if self.same_samples else rank))
        teacher = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
        while True:
            x = torch.randn(batch_size, 4, generator=generator, dtype=torch.float64)
            yield {"x": x, "y": x @ teacher, "items": torch.randint(0, ITEMS, (1,), generator=generator)}

    def counts(self, batch: Any) -> float:
        return float(batch["items"])

    def sources(self, batch: Any) -> dict[str, int]:
        positive = int((batch["x"][:, 0] > 0).sum())
        return {"positive": positive, "negative": len(batch["x"]) - positive}

    def losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        self.drawn += 1
        if self.fault and self.drawn == FAULT_BATCH and os.environ.get("RANK") == str(self.rank):
            exec(self.fault)
        items = int(batch["items"])
        error = model(batch["x"][:items])[:, 0] - batch["y"][:items]
        return {"mse": error.square().mean(), "l1": error.abs().mean()}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        x = torch.linspace(-1.0, 1.0, 32, dtype=torch.float64).reshape(8, 4)
        return {"mean": float(model(x.to(next(model.parameters()).device)).mean())}


class Checkpointed(Regression):
    """Computes activations again in the backward pass, as checkpoints did before `use_reentrant=False`."""

    def losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        assert isinstance(model, nn.Sequential)
        prediction = checkpoint(model[1:], model[0](batch["x"]), use_reentrant=True)
        return {"mse": (prediction[:, 0] - batch["y"]).square().mean()}


class Branching(Regression):
    """Rank 1 leaves out the first layers."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Sequential(nn.Linear(4, 4).double()), super().model())

    def losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        assert isinstance(model, nn.Sequential)
        return super().losses(model if os.environ.get("RANK") == "0" else model[1], batch)


class Sharded(Regression):
    """The same with FSDP2, or with another `parallelize`: `how` is `fsdp`, `part`, `tensor`, `copy` or `nothing`."""

    def __init__(self, *, how: str = "fsdp", **args: Any) -> None:
        super().__init__(**args)
        self.how = how

    def model(self) -> nn.Module:
        model = super().model()
        if self.how not in ("fsdp", "part"):
            return model
        # Neither can be broadcast as it is, and DistributedDataParallel does not take them.
        model.register_buffer("mask", torch.ones(1).expand(16, 16), persistent=False)
        model.register_buffer("positions", torch.arange(4, dtype=torch.int16), persistent=False)
        return model

    def parallelize(self, model: nn.Sequential, mesh: Any) -> nn.Module | None:
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

        if self.how == "copy":
            return nn.Sequential(model)
        if self.how == "tensor":
            parallelize_module(model[0], mesh, ColwiseParallel())
        if self.how in ("fsdp", "part"):
            fully_shard(model[0], mesh=mesh)
        if self.how == "fsdp":
            fully_shard(model, mesh=mesh)
        return None


class Predicting(Sharded):
    """Its first prediction cannot be written."""

    def predictions(self, model: nn.Module) -> Iterator[dict[str, Any]]:
        for row in range(3):
            predicted = float(model(torch.full((1, 4), float(row), dtype=torch.float64)))
            yield {"raw": str(row), "gold": "0", "pred": predicted if row else {predicted}}
