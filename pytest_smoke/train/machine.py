"""What a run says of the machine that it runs on, at its start and at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pytest_smoke.events import Ended, Started
from pytest_smoke.train.device import device_name
from pytest_smoke.train.utilization import Utilization


def started(model: nn.Module, device: torch.device) -> Started:
    """The device, and the size of what is on it."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return Started(
        device=str(device),
        device_name=device_name(device),
        torch=str(torch.__version__),  # a TorchVersion would import torch where it is read
        parameters=sum(size for size, _ in sizes),
        trainable=sum(size for size, trains in sizes if trains),
    )


class PeakMemory:
    """The most that a run has had allocated on a CUDA device, but for what was only looked at."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._before = device, 0

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is allocated in here does not count, and is given back after it."""
        if self._device.type == "cuda":
            self._before = max(self._before, torch.cuda.max_memory_allocated(self._device))
        yield
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)

    @property
    def gib(self) -> float | None:
        """In GiB; None on other devices."""
        if self._device.type != "cuda":
            return None
        return max(self._before, torch.cuda.max_memory_allocated(self._device)) / 2**30


def ended(steps: int, train_seconds: float, memory: PeakMemory, utilization: Utilization) -> Ended:
    """What the run took."""
    return Ended(steps, train_seconds, peak_memory_gib=memory.gib, utilization_percent=utilization.mean_percent)
