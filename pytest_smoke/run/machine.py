"""What a run says of the machine that it runs on, at its start and at its end."""

from __future__ import annotations

import torch
from torch import nn

from pytest_smoke.run.device import device_name
from pytest_smoke.run.records import Ended, Started
from pytest_smoke.run.utilization import Utilization


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


def ended(steps: int, train_seconds: float, device: torch.device, utilization: Utilization) -> Ended:
    """What the run took."""
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return Ended(steps, train_seconds, peak_memory_gib=peak, utilization_percent=utilization.mean_percent)
