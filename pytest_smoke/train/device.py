"""The device of a run, its random number generators, and evaluation that leaves no trace on training."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pytest_smoke.errors import DeviceError
from pytest_smoke.text import count
from pytest_smoke.train.hooks import has_hook
from pytest_smoke.train.sharding import reshard


def resolve_device(name: str) -> torch.device:
    """Return the device `auto`, `cpu`, `mps`, `cuda` or `cuda:N`. Raises DeviceError if it is not available.

    `cuda` is `cuda:0`: tensors on it have that index, and torch refuses to select a device without one.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = name.partition(":")
    present = {"cpu": 1, "mps": int(torch.backends.mps.is_available()), "cuda": torch.cuda.device_count()}
    if int(index or 0) >= present[kind]:
        raise DeviceError(
            f"there is no device {name!r}: torch {torch.__version__} sees {count(present[kind], f'{kind} device')}"
        )
    return torch.device(kind, int(index or 0)) if kind == "cuda" else torch.device(kind)


def device_name(device: torch.device) -> str:
    """Return the name of the hardware, or the kind of device if torch does not know it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def accelerators() -> list[dict[str, Any]]:
    """Return the accelerators that torch can use: `id`, `kind`, `name`, `memory_gib` (0 if torch does not know it).

    `key` names one among all of the machine, whatever CUDA_VISIBLE_DEVICES is, and can be part of a file's name.
    """
    devices: list[dict[str, Any]] = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory_gib = properties.total_memory / 2**30
        key = f"gpu-{getattr(properties, 'uuid', index)}"  # a build for ROCm may have no uuid
        if any(device["key"] == key for device in devices):
            key += f"-{index}"  # parts of one GPU
        devices.append(
            {"id": f"cuda:{index}", "kind": "cuda", "name": properties.name, "memory_gib": memory_gib, "key": key}
        )
    if torch.backends.mps.is_available():
        devices.append({"id": "mps", "kind": "mps", "name": "mps", "memory_gib": 0.0, "key": "mps"})
    return devices


def to_device(batch: Any, device: torch.device) -> Any:
    """Move every tensor in nested mappings, lists, tuples and named tuples to `device`; keep everything else."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if has_hook(batch, "to"):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's (if it is imported) and torch's generators."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    torch.manual_seed(seed)


def generator_states(device: torch.device) -> dict[str, Any]:
    """Return the states of Python's, NumPy's (if it is imported), torch's and the device's generators.

    They consist of tensors and plain values, so that `torch.load(weights_only=True)` can read them.
    """
    states: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if "numpy" in sys.modules:
        name, keys, *rest = sys.modules["numpy"].random.get_state()
        states["numpy"] = (name, keys.tolist(), *rest)  # torch.load(weights_only=True) rejects arrays
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_generator_states(states: Mapping[str, Any], device: torch.device) -> None:
    """Restore the states of `generator_states`."""
    random.setstate(states["python"])
    torch.set_rng_state(states["torch"])
    if "numpy" in states and "numpy" in sys.modules:
        sys.modules["numpy"].random.set_state(states["numpy"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    if "mps" in states and device.type == "mps":
        torch.mps.set_rng_state(states["mps"])


@contextmanager
def isolated_eval(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Switch to evaluation mode without gradients.

    On exit restore the mode of every module, and the generators of Python, NumPy, the CPU and a CUDA device; a sharded
    model is as it is between two steps.
    """
    root, modes = model.training, [(module, module.training) for module in model.modules()]
    python, numpy = random.getstate(), sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None
    devices = [device] if device.type == "cuda" else []
    model.eval()
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            yield
    finally:
        reshard(model)
        model.train(root)  # some modules do work in train(): LoRA layers unmerge their weights
        for module, mode in modes:
            if module.training != mode:
                module.train(mode)
        random.setstate(python)
        if numpy:
            numpy.random.set_state(numpy_state)
