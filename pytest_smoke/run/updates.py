"""Did every parameter that should train really change?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pytest_smoke.run.records import Updates


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Copies, on the host, of the parameters that require a gradient."""
    return {name: p.detach().to("cpu", copy=True) for name, p in model.named_parameters() if p.requires_grad}


def compare(before: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> Updates:
    """Which of them are bit for bit what they were, and what explains it."""
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    now = dict(model.named_parameters())
    stuck = [name for name, old in before.items() if torch.equal(old, now[name].detach().cpu())]
    return Updates(
        stuck=tuple(stuck),
        without_gradient=tuple(name for name in stuck if now[name].grad is None),
        outside_optimizer=tuple(name for name in stuck if id(now[name]) not in trained),
        checked=len(before),
    )
