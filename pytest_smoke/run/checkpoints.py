"""Rolling checkpoints in host memory: what the weights were before the trouble began."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SLOTS = 6
"""Checkpoints kept. With ages that about double, six of them reach back over half the window."""


class Checkpoints:
    """Copies of a model's parameters and buffers at a few past steps, the newer the denser.

    On CUDA the copies go to pinned memory on the current stream: they are ordered before the update that follows and
    hold up neither the device nor the host. Memory: `SLOTS` times the model, on the host.
    """

    def __init__(self, model: nn.Module) -> None:
        self._live = [t.detach() for t in (*model.parameters(), *model.buffers())]
        self._kept: list[tuple[int, list[Tensor]]] = []

    @property
    def steps(self) -> list[int]:
        """Steps that are kept, oldest first."""
        return [step for step, _ in self._kept]

    def save(self, step: int) -> None:
        """Keep the weights as they are before `step`."""
        slot = self._slot(step)
        for copy, live in zip(slot, self._live, strict=True):
            copy.copy_(live, non_blocking=True)
        self._kept.append((step, slot))

    def restore(self, step: int) -> int:
        """Load the newest checkpoint at or before `step` (the oldest, where all are newer); returns its step."""
        older = [kept for kept in self._kept if kept[0] <= step]
        found, slot = older[-1] if older else self._kept[0]
        with torch.no_grad():
            for copy, live in zip(slot, self._live, strict=True):
                live.copy_(copy)
        return found

    def _slot(self, step: int) -> list[Tensor]:
        if len(self._kept) < SLOTS:
            return [torch.empty(t.shape, dtype=t.dtype, pin_memory=t.is_cuda) for t in self._live]
        # Drop the one whose loss leaves the smallest gap for its age: that keeps ages about geometric.
        ages = [step - kept for kept, _ in self._kept]
        gaps = [(ages[i - 1] - ages[i + 1]) / ages[i] for i in range(1, SLOTS - 1)]
        return self._kept.pop(1 + gaps.index(min(gaps)))[1]
