"""Digests of batches and states, to tell whether two of them are equal."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import torch

from pytest_smoke.train.sharding import local


def digest(value: Any) -> str:
    """Return a digest of the tensors and plain values in nested mappings, sequences and objects, with their paths.

    Of a sharded tensor this process's part counts. Waits for the device if a tensor is on one.
    """
    total = blake2b(digest_size=16)
    for path, leaf in leaves(value):
        total.update(f"{path}\0".encode())
        if isinstance(leaf, torch.Tensor):
            flat = local(leaf.detach()).cpu().contiguous()
            total.update(f"{flat.dtype}{tuple(flat.shape)}".encode())
            # By address: Tensor.numpy() needs NumPy, which torch does not require, and does not support bfloat16.
            total.update((ctypes.c_char * flat.nbytes).from_address(flat.data_ptr()) if flat.nbytes else b"")
        else:
            total.update(repr(leaf).encode())
    return total.hexdigest()


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield tensors and plain values with their dotted paths; objects that hold neither are skipped.

    A mapping in a list is named after its `name` if that is a non-empty text: `stages[A].learning_rate`.
    """
    if isinstance(value, torch.Tensor | str | bytes | int | float | complex | bool | None):
        yield path, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from leaves(part, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            name = part.get("name") if isinstance(part, Mapping) else None
            yield from leaves(part, f"{path}[{name if isinstance(name, str) and name else number}]")
    elif hasattr(value, "__dict__"):
        yield from leaves(vars(value), path)
