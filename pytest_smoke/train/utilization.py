"""How busy the device was: NVML, asked twice a second by a thread, where nvidia-ml-py is installed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import torch

EVERY_SECONDS = 0.5
"""NVML's own figure is a mean over a sixth of a second to a second."""

Reader = Callable[[], float]


class Utilization:
    """Samples `read` while it is entered. A reader that raises ends the sampling; a rehearsal is worth more."""

    def __init__(self, read: Reader | None, *, every_seconds: float = EVERY_SECONDS) -> None:
        self._read, self._every = read, every_seconds
        self._sum, self._count = 0.0, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True) if read else None

    @property
    def mean_percent(self) -> float | None:
        """Mean share of the time in which the device computed; None without a sample."""
        return round(self._sum / self._count, 1) if self._count else None

    def __enter__(self) -> Self:
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()

    def _sample(self) -> None:
        assert self._read is not None
        while not self._over.wait(self._every):
            try:
                value = self._read()
            except Exception:
                return
            self._sum, self._count = self._sum + value, self._count + 1


def reader_of(device: torch.device) -> Reader | None:
    """What NVML says of a CUDA device; None for any other, and where NVML cannot be asked."""
    if device.type != "cuda":
        return None

    def read() -> float:
        return float(torch.cuda.utilization(device))

    try:
        read()
    except Exception:  # no nvidia-ml-py, no driver library, no permission: each raises something else
        return None
    return read
