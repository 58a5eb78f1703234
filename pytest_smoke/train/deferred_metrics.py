"""Figures stay on the device until a chunk of them is read back, so that no step waits for the host."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from pytest_smoke.events import Event

Maker = Callable[[list[float]], Event]


class DeferredMetrics:
    """Collects small 1-d float tensors and turns them into records, in order.

    On CUDA a flush starts one copy to pinned memory and returns what earlier flushes have finished; at most one copy
    is in flight when it returns, which also bounds how far the host runs ahead of the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._waiting: list[tuple[Maker, Tensor]] = []
        self._copies: deque[tuple[torch.cuda.Event, Tensor, list[tuple[Maker, int]]]] = deque()

    def put(self, make: Maker, values: Tensor) -> None:
        """Keep `values` (1-d); `make` gets them as floats at some later flush."""
        self._waiting.append((make, values))

    def flush(self, *, wait: bool = False) -> list[Event]:
        """Read back what was put. `wait`: all of it now, else all but the newest chunk on CUDA."""
        records: list[Event] = []
        if self._waiting:
            flat = torch.cat([values.float() for _, values in self._waiting])
            makers = [(make, values.numel()) for make, values in self._waiting]
            self._waiting = []
            if not self._cuda:
                return _records(makers, flat.tolist())
            host = torch.empty(flat.shape, dtype=flat.dtype, pin_memory=True)
            host.copy_(flat, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch types it so
            copied.record()
            self._copies.append((copied, host, makers))
        while self._copies and (wait or len(self._copies) > 1):
            copied, host, makers = self._copies.popleft()
            copied.synchronize()
            records += _records(makers, host.tolist())
        return records


def _records(makers: list[tuple[Maker, int]], values: list[float]) -> list[Event]:
    records, at = [], 0
    for make, count in makers:
        records.append(make(values[at : at + count]))
        at += count
    return records
