"""Copy figures from the device in chunks, so that no optimizer step waits for the host."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from pytest_smoke.events import Event

MakeEvent = Callable[[list[float]], Event | None]


class DeferredMetrics:
    """Collects small 1-d float tensors on the device and turns them into events, in order.

    On CUDA a flush starts one copy to pinned memory and returns what earlier flushes have copied. At most one copy is
    in flight afterwards, which also limits how far the host runs ahead of the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._pending: list[tuple[MakeEvent, Tensor]] = []
        self._copies: deque[tuple[torch.cuda.Event, Tensor, list[tuple[MakeEvent, int]]]] = deque()

    def put(self, make: MakeEvent, values: Tensor) -> None:
        """Keep `values` (1-d); a later flush passes them to `make` as floats. What it returns is an event or None."""
        self._pending.append((make, values))

    def flush(self, *, wait: bool = False) -> list[Event]:
        """Return the events of what was put: all of it with `wait`, else on CUDA all but the newest chunk."""
        events: list[Event] = []
        if self._pending:
            flat = torch.cat([values.float() for _, values in self._pending])
            makers = [(make, values.numel()) for make, values in self._pending]
            self._pending = []
            if not self._is_cuda:
                return _events(makers, flat.tolist())
            host = torch.empty(flat.shape, dtype=flat.dtype, pin_memory=True)
            host.copy_(flat, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch types it so
            copied.record()
            self._copies.append((copied, host, makers))
        while self._copies and (wait or len(self._copies) > 1):
            copied, host, makers = self._copies.popleft()
            copied.synchronize()
            events += _events(makers, host.tolist())
        return events


def _events(makers: list[tuple[MakeEvent, int]], values: list[float]) -> list[Event]:
    events, first = [], 0
    for make, count in makers:
        event = make(values[first : first + count])
        if event is not None:
            events.append(event)
        first += count
    return events
