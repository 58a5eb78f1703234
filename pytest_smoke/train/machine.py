"""Measure the machine during a run: its device, peak memory and utilization."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import torch
from torch import nn

from pytest_smoke.events import Activity, Ended, Started
from pytest_smoke.train.device import device_name

SAMPLE_SECONDS = 0.5
"""Time between two readings of the utilization; NVML's own figure is a mean over a sixth of a second to a second."""


def started(model: nn.Module, device: torch.device) -> Started:
    """Return the event of a run's start: the device, and the size of the model on it."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return Started(
        device=str(device),
        device_name=device_name(device),
        torch=str(torch.__version__),  # unpickling a TorchVersion would import torch in the pytest process
        parameters=sum(size for size, _ in sizes),
        trainable=sum(size for size, trains in sizes if trains),
    )


def activity(device: torch.device, doing: str = "") -> Activity:
    """Return the event of what the training process does now. It does not wait for the device."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return _activity(doing, torch.cuda.memory_reserved(device), total)
    if device.type == "mps":
        return _activity(doing, torch.mps.driver_allocated_memory(), torch.mps.recommended_max_memory())
    return Activity(doing=doing)


def _activity(doing: str, reserved_bytes: int, total_bytes: int) -> Activity:
    return Activity(
        doing=doing, memory_gib=round(reserved_bytes / 2**30, 2), device_memory_gib=round(total_bytes / 2**30, 1)
    )


class PeakMemory:
    """Measures the peak memory that training allocates on a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._earlier_peak = device, 0

    @contextmanager
    def excluded(self) -> Iterator[None]:
        """Leave out what is allocated in this context, and return it to the device on exit."""
        if self._device.type == "cuda":
            self._earlier_peak = max(self._earlier_peak, torch.cuda.max_memory_allocated(self._device))
        yield
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)

    @property
    def gib(self) -> float | None:
        """The peak in GiB; None on other devices."""
        if self._device.type != "cuda":
            return None
        return max(self._earlier_peak, torch.cuda.max_memory_allocated(self._device)) / 2**30


class Utilization:
    """Averages the utilization of a CUDA device over a `with` block.

    A thread calls `read`, which returns percent, every `every_seconds`. An exception in it ends the sampling and
    nothing else.
    """

    def __init__(self, read: Callable[[], float] | None, *, every_seconds: float = SAMPLE_SECONDS) -> None:
        self._read, self._every = read, every_seconds
        self._sum, self._count = 0.0, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True) if read else None

    @property
    def mean_percent(self) -> float | None:
        """Mean utilization in percent; None without a reading."""
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


def utilization_reader(device: torch.device) -> Callable[[], float] | None:
    """Return a function that reads the utilization from NVML; None for other devices and if NVML is not available."""
    if device.type != "cuda":
        return None

    def read() -> float:
        return float(torch.cuda.utilization(device))

    try:
        read()
    except Exception:  # a missing nvidia-ml-py, driver library or permission: each raises something else
        return None
    return read


def ended(steps: int, train_seconds: float, memory: PeakMemory, utilization: Utilization) -> Ended:
    """Return the event of a run's end."""
    return Ended(steps, train_seconds, peak_memory_gib=memory.gib, utilization_percent=utilization.mean_percent)
