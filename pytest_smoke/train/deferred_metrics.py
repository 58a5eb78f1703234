"""Copy figures from the device in chunks, so that no optimizer step waits for the host."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pytest_smoke.events import Event

MakeEvent = Callable[[list[float]], Event | None]
Across = Callable[[Sequence[float], Sequence[bool]], list[float]]
"""Returns values of all processes of a run together: sums of those that are partial, else those of the first one."""


class _Maker(NamedTuple):
    make: MakeEvent
    values: int
    partial: int
    """The first of the values, which each process has a part of."""


class DeferredMetrics:
    """Collects small 1-d float tensors on the device and turns them into events, in order.

    On CUDA a flush starts one copy to pinned memory and returns what earlier flushes have copied. At most one copy is
    in flight afterwards, which also limits how far the host runs ahead of the device.
    """

    def __init__(self, device: torch.device, across: Across | None = None) -> None:
        """`across`: reduces what is on the host over the processes of a run, once per flush; None for one process."""
        self._is_cuda, self._across = device.type == "cuda", across
        self._pending: list[tuple[MakeEvent, Tensor, int]] = []
        self._copies: deque[tuple[torch.cuda.Event, Tensor, list[_Maker]]] = deque()

    def put(self, make: MakeEvent, values: Tensor, *, partial: int = 0) -> None:
        """Keep `values` (1-d); a later flush passes them to `make` as floats. What it returns is an event or None.

        `partial`: number of the first values that are to be added up over the processes of the run.
        """
        self._pending.append((make, values, partial))

    def flush(self, *, wait: bool = False) -> list[Event]:
        """Return the events of what was put: all of it with `wait`, else on CUDA all but the newest chunk."""
        arrived: list[_Maker] = []
        values: list[float] = []
        if self._pending:
            flat = torch.cat([values.float() for _, values, _ in self._pending])
            makers = [_Maker(make, values.numel(), partial) for make, values, partial in self._pending]
            self._pending = []
            if not self._is_cuda:
                return self._events(makers, flat.tolist())
            host = torch.empty(flat.shape, dtype=flat.dtype, pin_memory=True)
            host.copy_(flat, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch types it so
            copied.record()
            self._copies.append((copied, host, makers))
        while self._copies and (wait or len(self._copies) > 1):
            copied, host, makers = self._copies.popleft()
            copied.synchronize()
            arrived += makers
            values += host.tolist()
        return self._events(arrived, values)

    def _events(self, makers: Sequence[_Maker], values: list[float]) -> list[Event]:
        if self._across is not None:
            values = self._across(values, [at < maker.partial for maker in makers for at in range(maker.values)])
        events, first = [], 0
        for maker in makers:
            event = maker.make(values[first : first + maker.values])
            if event is not None:
                events.append(event)
            first += maker.values
        return events
