"""Did every parameter that should train really change, and no other?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pytest_smoke.events import Updates


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Copies of parameters, on the host, by name."""

    trains: dict[str, Tensor]
    """Those that require a gradient."""
    frozen: dict[str, Tensor]
    """The others, where a stage says which ones train."""


def snapshot(model: nn.Module, *, frozen: bool = False) -> Snapshot:
    """The parameters as they are; those that require no gradient only if `frozen`."""
    copies = {
        name: (p.requires_grad, p.detach().to("cpu", copy=True))
        for name, p in model.named_parameters()
        if p.requires_grad or frozen
    }
    return Snapshot(
        trains={name: copy for name, (trains, copy) in copies.items() if trains},
        frozen={name: copy for name, (trains, copy) in copies.items() if not trains},
    )


def compare(before: Snapshot, model: nn.Module, optimizer: torch.optim.Optimizer) -> Updates:
    """Which of them did not train that should, and what explains it; and which of them changed that should not."""
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    now = dict(model.named_parameters())
    stuck = [name for name, old in before.trains.items() if torch.equal(old, now[name].detach().cpu())]
    return Updates(
        stuck=tuple(stuck),
        without_gradient=tuple(name for name in stuck if now[name].grad is None),
        outside_optimizer=tuple(name for name in stuck if id(now[name]) not in trained),
        checked=len(before.trains),
        moved=tuple(name for name, old in before.frozen.items() if not torch.equal(old, now[name].detach().cpu())),
    )
