"""Sums of batches, states and files, to say whether two are the same."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

import torch


def file_sum(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Of every tensor and plain value in a nest of mappings, sequences and objects, by its path.

    Waits for the device where a tensor lies on one.
    """
    total = blake2b(digest_size=16)
    for path, leaf in leaves(value):
        total.update(f"{path}\0".encode())
        if isinstance(leaf, torch.Tensor):
            flat = leaf.detach().cpu().contiguous()
            total.update(f"{flat.dtype}{tuple(flat.shape)}".encode())
            # By address: Tensor.numpy() needs NumPy, which torch does not, and knows no bfloat16.
            total.update((ctypes.c_char * flat.nbytes).from_address(flat.data_ptr()) if flat.nbytes else b"")
        else:
            total.update(repr(leaf).encode())
    return total.hexdigest()


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Tensors and plain values with their dotted paths; what is neither, nor holds any, is passed over.

    A mapping in a list goes by its `name`, where that is text: `stages[A].learning_rate`.
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
