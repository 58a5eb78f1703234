"""The folder that is shipped: weights, ONNX files, examples, and a manifest of checksums."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from pytest_smoke.errors import TaskError
from pytest_smoke.train.digest import file_sum
from pytest_smoke.train.task import Task

SCHEMA = 1
"""Version of the package's layout; raised when a file or key changes its meaning or goes away."""
WEIGHTS, ONNX, INT8, EXAMPLES = "model.safetensors", "model.onnx", "model.int8.onnx", "examples.safetensors"
RECIPE, METRICS, LABELS, MANIFEST = "recipe.json", "metrics.json", "labels.json", "manifest.json"
LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy", "safetensors", "pytest-verdict-smoke")


def write_weights(model: nn.Module, folder: Path) -> None:
    """The model's state in safetensors; of tied tensors one is written, and the others' names are noted."""
    save_model(model, str(folder / WEIGHTS))


def write_examples(folder: Path, **groups: Sequence[Tensor]) -> None:
    """Tensors by group as `input.0`, `input.1`, `output.0`, ...: what a loaded model must do again."""
    flat = {f"{name}.{i}": one.contiguous() for name, group in groups.items() for i, one in enumerate(group)}
    save_file({name: one.clone() for name, one in flat.items()}, str(folder / EXAMPLES))  # no two may share memory


def labels_of(task: Task) -> list[str] | None:
    """Names of the classes; None where the task has none. Raises TaskError for anything but a list of texts."""
    labels: Any = getattr(task, "labels", None)
    labels = labels() if callable(labels) else labels
    if labels is None:
        return None
    if isinstance(labels, str) or not all(isinstance(one, str) for one in labels):
        raise TaskError(f"labels is {labels!r:.200}: it must be a list of texts")
    return list(labels)


def write_json(path: Path, value: Any) -> None:
    """Strict JSON."""
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_manifest(folder: Path, *, tolerance: float) -> int:
    """Checksums of all that lies in `folder`, and the versions that wrote it; bytes in all."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_sum(path)}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    versions = {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}}
    write_json(folder / MANIFEST, {"schema": SCHEMA, "tolerance": tolerance, "versions": versions, "files": files})
    for name in files:  # safetensors writes what only its owner may read
        (folder / name).chmod((folder / MANIFEST).stat().st_mode)
    return sum(int(str(one["bytes"])) for one in files.values()) + (folder / MANIFEST).stat().st_size


def unlike(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What in `folder` is not as the manifest's `files` say, each file by name."""
    found = []
    for name, said in files.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != said["bytes"]:
            found.append(f"{name} has {path.stat().st_size} bytes, not {said['bytes']}")
        elif (is_now := file_sum(path)) != said["sha256"]:
            found.append(f"{name} has another content: its SHA-256 is {is_now}, not {said['sha256']}")
    known = {*files, MANIFEST}
    return found + [
        f"{path.name} is not in the manifest" for path in sorted(folder.iterdir()) if path.name not in known
    ]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
