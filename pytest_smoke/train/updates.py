"""Check that every trainable parameter changed during a stage, and no frozen one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pytest_smoke.events import Updates
from pytest_smoke.train.sharding import local, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Copies of parameters on the host, by name; of sharded ones this process's part."""

    trainable: dict[str, Tensor]
    """Those that require a gradient."""
    frozen: dict[str, Tensor]
    """The others, if the stage declares which ones train."""


def snapshot(model: nn.Module, *, frozen: bool = False) -> Snapshot:
    """Copy the parameters; those that require no gradient only if `frozen`."""
    copies = {
        name: (p.requires_grad, local(p.detach()).to("cpu", copy=True))
        for name, p in model.named_parameters()
        if p.requires_grad or frozen
    }
    return Snapshot(
        trainable={name: copy for name, (trains, copy) in copies.items() if trains},
        frozen={name: copy for name, (trains, copy) in copies.items() if not trains},
    )


def compare(
    before: Snapshot,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    stopped: Mapping[str, int] | None = None,
    anywhere: Callable[[Sequence[bool]], list[bool]] = list,
) -> Updates:
    """Compare the parameters with `before`, bit for bit. A parameter that the model no longer has is left out.

    `stopped`: parameters that changed at first, and the step since which they do not. `anywhere`: returns flags that
    are set in any process of the run, each of which holds a part of the parameters.
    """
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    now = dict(model.named_parameters())

    def unchanged_of(olds: Mapping[str, Tensor]) -> list[str]:
        names = [name for name in olds if name in now]
        changed = anywhere([not torch.equal(olds[name], local(now[name].detach()).cpu()) for name in names])
        return [name for name, has_changed in zip(names, changed, strict=True) if not has_changed]

    def rate(name: str) -> float:
        return float(groups[id(now[name])]["lr"]) if id(now[name]) in groups else 0.0

    unchanged, frozen = unchanged_of(before.trainable), set(unchanged_of(before.frozen))
    return Updates(
        unchanged=tuple(unchanged),
        without_gradient=tuple(name for name in unchanged if now[name].grad is None),
        outside_optimizer=tuple(name for name in unchanged if id(now[name]) not in groups),
        checked=len(before.trainable),
        changed_frozen=tuple(name for name in before.frozen if name not in frozen),
        rounded=tuple(name for name in unchanged if is_rounded_away(now[name], rate(name))),
        zero_rate=tuple(name for name in unchanged if id(now[name]) in groups and rate(name) == 0.0),
        stopped={name: step for name, step in (stopped or {}).items() if not is_rounded_away(now[name], rate(name))},
    )


def is_rounded_away(parameter: Tensor, learning_rate: float) -> bool:
    """Tell whether updates of a parameter are smaller than the spacing of its values, in every element with a gradient.

    The size of an update is taken as the learning rate, times the largest gradient if that is above 1: Adam's is the
    learning rate or less, that of SGD is the learning rate times the gradient.
    """
    gradient = parameter.grad
    if gradient is None or learning_rate <= 0.0:
        return False
    parameter, gradient = whole(parameter.detach()), whole(gradient)
    sizes = parameter.abs()[gradient != 0]
    if not sizes.numel():
        return False
    update = learning_rate * max(1.0, float(gradient.abs().max()))
    return update < torch.finfo(parameter.dtype).eps * float(sizes.min())
