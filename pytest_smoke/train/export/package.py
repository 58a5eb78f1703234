"""The files of a model package: weights, ONNX files, examples, and a manifest with checksums."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from pytest_smoke.environment import DISTRIBUTION, version_of
from pytest_smoke.errors import TaskError
from pytest_smoke.files import file_sha256
from pytest_smoke.task import Task
from pytest_smoke.train.hooks import hook_of

SCHEMA = 1
"""Version of the package's layout; raised when a file or key changes its meaning or is removed."""
WEIGHTS, ONNX, INT8, EXAMPLES = "model.safetensors", "model.onnx", "model.int8.onnx", "examples.safetensors"
RECIPE, METRICS, LABELS, MANIFEST = "recipe.json", "metrics.json", "labels.json", "manifest.json"
LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy", "safetensors", DISTRIBUTION)
"""Libraries whose versions the manifest records."""


def write_weights(model: nn.Module, folder: Path) -> None:
    """Write the model's state with safetensors: one of several tied tensors, and the names of the others."""
    save_model(model, str(folder / WEIGHTS))


def write_examples(folder: Path, **groups: Sequence[Tensor]) -> None:
    """Write tensors by group as `input.0`, `input.1`, `output.0`, ...: what a loaded model must reproduce."""
    flat = {f"{name}.{i}": one.contiguous() for name, group in groups.items() for i, one in enumerate(group)}
    # Cloned, because safetensors rejects tensors that share memory.
    save_file({name: one.clone() for name, one in flat.items()}, str(folder / EXAMPLES))


def labels_of(task: Task) -> list[str] | None:
    """Return the names of the classes; None if the task has none. Raises TaskError if they are not a list of texts."""
    labels: Any = hook_of(task, "labels")
    labels = labels() if callable(labels) else labels
    if labels is None:
        return None
    if isinstance(labels, str) or not all(isinstance(one, str) for one in labels):
        raise TaskError(f"labels is {labels!r:.200}: it must be a list of strings")
    return list(labels)


def write_json(path: Path, value: Any) -> None:
    """Write JSON without NaN and infinities. Raises ValueError for those."""
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_manifest(folder: Path, *, tolerance: float) -> int:
    """Write checksums of all files in `folder`, and versions of the libraries; return the size of the package."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    versions = {"python": platform.python_version(), **{name: version_of(name) for name in LIBRARIES}}
    write_json(folder / MANIFEST, {"schema": SCHEMA, "tolerance": tolerance, "versions": versions, "files": files})
    for name in files:  # safetensors makes files that only their owner may read
        (folder / name).chmod((folder / MANIFEST).stat().st_mode)
    return sum(int(str(one["bytes"])) for one in files.values()) + (folder / MANIFEST).stat().st_size


def changed_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one sentence per file in `folder` that differs from the manifest's `files`."""
    changes = []
    for name, recorded in files.items():
        path = folder / name
        if not path.is_file():
            changes.append(f"{name} is missing")
        elif path.stat().st_size != recorded["bytes"]:
            changes.append(f"{name} has {path.stat().st_size} bytes, the manifest says {recorded['bytes']}")
        elif (checksum := file_sha256(path)) != recorded["sha256"]:
            changes.append(f"{name} was changed: its SHA-256 is {checksum}, the manifest says {recorded['sha256']}")
    known = {*files, MANIFEST}
    return changes + [
        f"{path.name} is not in the manifest" for path in sorted(folder.iterdir()) if path.name not in known
    ]
