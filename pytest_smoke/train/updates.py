"""Check that every trainable parameter changed during a stage, and no frozen one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pytest_smoke.events import Updates


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Copies of parameters on the host, by name."""

    trainable: dict[str, Tensor]
    """Those that require a gradient."""
    frozen: dict[str, Tensor]
    """The others, if the stage declares which ones train."""


def snapshot(model: nn.Module, *, frozen: bool = False) -> Snapshot:
    """Copy the parameters; those that require no gradient only if `frozen`."""
    copies = {
        name: (p.requires_grad, p.detach().to("cpu", copy=True))
        for name, p in model.named_parameters()
        if p.requires_grad or frozen
    }
    return Snapshot(
        trainable={name: copy for name, (trains, copy) in copies.items() if trains},
        frozen={name: copy for name, (trains, copy) in copies.items() if not trains},
    )


def compare(before: Snapshot, model: nn.Module, optimizer: torch.optim.Optimizer) -> Updates:
    """Compare the parameters with `before`, bit for bit."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    now = dict(model.named_parameters())

    def is_unchanged(name: str, old: Tensor) -> bool:
        return torch.equal(old, now[name].detach().cpu())

    unchanged = [name for name, old in before.trainable.items() if is_unchanged(name, old)]
    return Updates(
        unchanged=tuple(unchanged),
        without_gradient=tuple(name for name in unchanged if now[name].grad is None),
        outside_optimizer=tuple(name for name in unchanged if id(now[name]) not in held),
        checked=len(before.trainable),
        changed_frozen=tuple(name for name, old in before.frozen.items() if not is_unchanged(name, old)),
    )
