"""Rolling checkpoints in host memory: what the weights were before the trouble began."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

LEVELS = 4
"""Ages that are kept beside the newest and the first: 1, 2-3, 4-7 and 8-15 checkpoints old."""
SLOTS = LEVELS + 2


def kept_numbers(newest: int) -> set[int]:
    """Which checkpoints of 0 to `newest` are kept: for any delay up to 8 of them, one at most four times as old.

    At level j the one before the last multiple of 2^j. What a level needs next, the level below still has.
    """
    return {0, newest} | {max(0, ((newest >> level) - 1) << level) for level in range(LEVELS)}


class WeightHistory:
    """Copies of a model's parameters and buffers at a few past steps, the newer the denser.

    On CUDA the copies go to pinned memory on the current stream: they are ordered before the update that follows and
    hold up neither the device nor the host. Memory: `SLOTS` times the model, on the host.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._kept: dict[int, tuple[int, dict[str, Tensor]]] = {}
        self._saved = 0

    @property
    def steps(self) -> list[int]:
        """Steps that are kept, oldest first."""
        return [step for step, _ in self._kept.values()]

    def save(self, step: int) -> None:
        """Keep the weights as they are before `step`."""
        number, self._saved = self._saved, self._saved + 1
        wanted = kept_numbers(number)
        free = [self._kept.pop(old)[1] for old in list(self._kept) if old not in wanted]
        slot = free[0] if free else {}
        for name, live in self._live():
            if name not in slot or slot[name].shape != live.shape:
                slot[name] = torch.empty(live.shape, dtype=live.dtype, pin_memory=live.is_cuda)
            slot[name].copy_(live, non_blocking=True)
        self._kept[number] = (step, slot)

    def restore(self, step: int) -> int:
        """Load the newest checkpoint at or before `step` (the oldest, where all are newer); returns its step."""
        older = [kept for kept in self._kept.values() if kept[0] <= step]
        found, slot = older[-1] if older else next(iter(self._kept.values()))
        for name, live in self._live():
            if name in slot and slot[name].shape == live.shape:
                live.copy_(slot[name])
        return found

    def _live(self) -> Iterator[tuple[str, Tensor]]:
        """By name and anew each time: a module may replace a buffer's tensor as it trains."""
        for name, tensor in (*self._model.named_parameters(), *self._model.named_buffers()):
            yield name, tensor.detach()
