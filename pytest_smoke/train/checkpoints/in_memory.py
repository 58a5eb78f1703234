"""Copies of recent weights in host memory, from which a stopped run restores its last good ones."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pytest_smoke.train.in_place import write_
from pytest_smoke.train.sharding import local

LEVELS = 4
"""Ages that are kept besides the newest and the first copy: 1, 2-3, 4-7 and 8-15 copies."""
SLOTS = LEVELS + 2
"""Copies that are kept, at most."""


Copy = tuple[int, dict[str, Tensor]]
"""A step, and by name the parameters and buffers before it, on the host; of sharded ones this process's part."""


def kept_numbers(newest: int) -> set[int]:
    """Return which of the copies 0 to `newest` are kept: for any delay up to 8 copies, one at most four times as old.

    Level j keeps the copy before the last multiple of 2^j. What a level needs next is still kept by the level below.
    """
    return {0, newest} | {max(0, ((newest >> level) - 1) << level) for level in range(LEVELS)}


class WeightHistory:
    """Copies of a model's parameters and buffers at a few past steps, denser for recent ones.

    On CUDA the copies go to pinned memory on the current stream: they are ordered before the update that follows, and
    neither the device nor the host waits for them. Memory: `SLOTS` times the model, on the host. Of a sharded model
    each process copies its part.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._copies: dict[int, Copy] = {}
        self._saved = 0
        self._copied: torch.cuda.Event | None = None
        """On CUDA the end of the newest copy."""

    @property
    def steps(self) -> list[int]:
        """Steps that are kept, oldest first."""
        return [step for step, _ in self._copies.values()]

    def save(self, step: int) -> None:
        """Keep the weights as they are before `step`."""
        number, self._saved = self._saved, self._saved + 1
        kept = kept_numbers(number)
        free = [self._copies.pop(old)[1] for old in list(self._copies) if old not in kept]
        slot = free[0] if free else {}
        on_cuda = False
        for name, live in self._live():
            if name not in slot or slot[name].shape != live.shape:
                slot[name] = torch.empty(live.shape, dtype=live.dtype, pin_memory=live.is_cuda)
            slot[name].copy_(live, non_blocking=True)
            on_cuda |= live.is_cuda
        self._copies[number] = (step, slot)
        if on_cuda:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch types it so
            self._copied.record()

    def at(self, step: int) -> Copy | None:
        """Return the newest copy at or before `step`, once it is on the host; None if there is none."""
        if self._copied is not None:
            self._copied.synchronize()
        older = [copy for copy in self._copies.values() if copy[0] <= step]
        return older[-1] if older else None

    def newest(self) -> Copy | None:
        """Return the newest copy, once it is on the host; None if there is none."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._copies.get(self._saved - 1)

    def newest_two(self) -> tuple[Copy, Copy] | None:
        """Return the newest two copies, older first, once they are on the host; None if there are fewer."""
        newest, older = self.newest(), self._copies.get(self._saved - 2)
        return None if newest is None or older is None else (older, newest)

    def restore(self, step: int) -> int:
        """Load the newest copy at or before `step`, or the oldest if all are newer; return its step."""
        older = [copy for copy in self._copies.values() if copy[0] <= step]
        restored, slot = older[-1] if older else next(iter(self._copies.values()))
        for name, live in self._live():
            if name in slot and slot[name].shape == live.shape:
                write_(live, slot[name])
        return restored

    def _live(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the current tensors by name: a module may replace the tensor of a buffer during training."""
        for name, tensor in (*self._model.named_parameters(), *self._model.named_buffers()):
            yield name, local(tensor.detach())
