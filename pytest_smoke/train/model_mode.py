"""Watch whether the model trains in training mode, and find parameters that share storage by accident."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from itertools import pairwise
from types import FunctionType
from typing import Any

import torch
from torch import nn

from pytest_smoke.events import ModelMode, SharedStorage

NAMES_REPORTED = 20
"""Modules and parameters that an event names before it only counts the rest."""
NOT_FORWARD = ("train", "eval", "__init__", "extra_repr")
"""Methods whose use of `training` says nothing about the forward pass."""


class ModeWatch:
    """Watches the modules that compute something else in evaluation mode: dropout, batch norm, and the user's own.

    Only modules that are in training mode when the watch is made are watched. A module may be frozen on purpose: one
    whose parent stays in training mode, and any part of the model in which nothing trains.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._watched = {
            name: module for name, module in model.named_modules() if module.training and depends_on_mode(module)
        }
        parents = {child: parent for parent in model.modules() for child in parent.children()}
        self._parents = {name: parents.get(module) for name, module in self._watched.items()}
        self._in_training: set[str] = set()
        self._in_eval: set[str] = set()

    @contextlib.contextmanager
    def over(self, *, hooks: bool) -> Iterator[None]:
        """Watch the training that is done in this context.

        With `hooks` every call of a module counts in which gradients are enabled. Code that torch has compiled would be
        compiled again for them. Without, only the modes at the end count.
        """
        self._in_training, self._in_eval = set(), set()
        handles = []
        if hooks:
            for name, module in self._watched.items():
                handles.append(module.register_forward_pre_hook(self._hook(name)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        for name in self._watched.keys() - self._in_training - self._in_eval:
            if not handles:
                self._count(name)

    def event(self, step: int, stage: str) -> ModelMode | None:
        """Return what was seen; None if no module depends on the mode."""
        if not self._watched:
            return None
        names = [name or "the model" for name in self._watched if name in self._in_eval - self._in_training]
        in_eval = tuple(names[:NAMES_REPORTED])
        return ModelMode(step=step, stage=stage, watched=len(self._watched), eval_count=len(names), in_eval=in_eval)

    def _hook(self, name: str) -> Any:
        def called(module: nn.Module, args: Any) -> None:
            if torch.is_grad_enabled():
                self._count(name)

        return called

    def _count(self, name: str) -> None:
        module, parent = self._watched[name], self._parents[name]
        if module.training:
            self._in_training.add(name)
        elif not self._is_deliberate(module, parent):
            self._in_eval.add(name)

    @staticmethod
    def _is_deliberate(module: nn.Module, parent: nn.Module | None) -> bool:
        is_leaf = next(module.children(), None) is None
        if parent is not None and is_leaf and parent.training:
            return True
        owner = parent if is_leaf and parent is not None else module
        return not any(parameter.requires_grad for parameter in owner.parameters())


def depends_on_mode(module: nn.Module) -> bool:
    """Tell whether a module's own forward pass differs in evaluation mode, without that of its parts."""
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return bool(module.track_running_stats)
    if isinstance(module, nn.RNNBase):
        return bool(module.dropout > 0 and module.num_layers > 1)
    if isinstance(module, nn.MultiheadAttention):
        return bool(module.dropout > 0)
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return bool(module.p > 0)
    return isinstance(module, nn.RReLU) or any(
        "training" in method.__code__.co_names
        for cls in type(module).__mro__
        if not cls.__module__.startswith("torch.nn.")
        for name, method in vars(cls).items()
        if isinstance(method, FunctionType) and name not in NOT_FORWARD
    )


def shared_storage(model: nn.Module) -> SharedStorage | None:
    """Return the trainable parameters that overlap in memory with another one; None if there are none.

    A parameter that the model holds twice is one parameter, and does not count.
    """
    spans = []
    for number, (name, parameter) in enumerate(model.named_parameters()):
        with contextlib.suppress(RuntimeError, NotImplementedError):  # a tensor without memory of its own
            if parameter.numel() and not parameter.is_meta and (start := parameter.data_ptr()):
                extents = zip(parameter.shape, parameter.stride(), strict=True)
                elements = 1 + sum((size - 1) * stride for size, stride in extents)
                end = start + elements * parameter.element_size()
                spans.append((start, number, end, name, parameter.requires_grad))
    overlaps = [(a, b) for a, b in pairwise(sorted(spans)) if b[0] < a[2] and (a[-1] or b[-1])]
    if not overlaps:
        return None
    pairs = tuple(f"{a[3]} and {b[3]}" for a, b in overlaps[:NAMES_REPORTED])
    return SharedStorage(pairs=pairs, count=len(overlaps))


def compiled_frames() -> int:
    """Return how many functions torch has compiled in this process, or has tried to."""
    dynamo: Any = sys.modules.get("torch._dynamo.utils")
    return 0 if dynamo is None else int(sum(dynamo.counters["frames"].values()))
