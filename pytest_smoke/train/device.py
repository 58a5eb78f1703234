"""Where a rehearsal runs, and how its batches and random numbers are kept."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pytest_smoke.errors import DeviceError


def resolve(name: str) -> torch.device:
    """The device called `auto`, `cpu`, `mps`, `cuda` or `cuda:N`. Raises DeviceError where there is none such."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = name.partition(":")
    present = {"cpu": 1, "mps": int(torch.backends.mps.is_available()), "cuda": torch.cuda.device_count()}
    if int(index or 0) >= present[kind]:
        raise DeviceError(
            f"there is no device {name!r}: torch {torch.__version__} sees {present[kind]} of kind {kind!r}"
        )
    return torch.device(kind, int(index)) if index else torch.device(kind)


def device_name(device: torch.device) -> str:
    """What the hardware calls itself, or the kind of device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def accelerators() -> list[dict[str, Any]]:
    """The accelerators torch can use: `id`, `kind`, `name`, `memory_gib` (0 where torch does not say)."""
    found: list[dict[str, Any]] = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory_gib = properties.total_memory / 2**30
        found.append({"id": f"cuda:{index}", "kind": "cuda", "name": properties.name, "memory_gib": memory_gib})
    if torch.backends.mps.is_available():
        found.append({"id": "mps", "kind": "mps", "name": "mps", "memory_gib": 0.0})
    return found


def to_device(batch: Any, device: torch.device) -> Any:
    """`batch` with every tensor in its mappings, lists, tuples and named tuples on `device`; the rest as it is."""
    if hasattr(batch, "to"):
        return batch.to(device, non_blocking=True) if isinstance(batch, torch.Tensor) else batch.to(device)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's (where it is loaded) and torch's generators."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def isolated_eval(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode without gradients; every module's mode, and Python's, NumPy's, the CPU's and CUDA's generators,
    are put back after it."""
    root, modes = model.training, [(module, module.training) for module in model.modules()]
    python, numpy = random.getstate(), sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None
    devices = [device] if device.type == "cuda" else []
    model.eval()
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            yield
    finally:
        model.train(root)  # some modules do work in train(), merged LoRA weights for one
        for module, mode in modes:
            if module.training != mode:
                module.train(mode)
        random.setstate(python)
        if numpy:
            numpy.random.set_state(numpy_state)
