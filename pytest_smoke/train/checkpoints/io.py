"""A checkpoint on disk: a folder with the weights, the training state, and a page that says what they are."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model
from torch import nn

from pytest_smoke.errors import CheckpointError
from pytest_smoke.train.checkpoints.layout import ABOUT, TRAINING, WEIGHTS
from pytest_smoke.train.digest import file_sum


@dataclass(frozen=True, slots=True, kw_only=True)
class StateFile:
    """A checkpoint that was found whole."""

    folder: Path
    about: Mapping[str, Any]
    """`step`, `kind`, the recipe's id, task, arguments, seed, versions, and `sha256` by file."""

    @property
    def step(self) -> int:
        """The optimizer step that comes next."""
        return int(self.about["step"])

    @property
    def weights(self) -> Path:
        """The file with the model's weights."""
        return self.folder / WEIGHTS

    def training(self) -> dict[str, Any]:
        """Optimizer, scaler, generators and data position, on the CPU. Raises CheckpointError."""
        if TRAINING not in self.about["sha256"]:
            raise CheckpointError(f"{self.folder} holds weights only: no run can go on from it")
        loaded: dict[str, Any] = load_torch(self.folder / TRAINING)
        return loaded


def write_state(
    folder: Path, name: str, model: nn.Module, training: Mapping[str, Any] | None, about: Mapping[str, Any]
) -> Path:
    """Write the checkpoint `folder/name`: beside it, to the disk, then renamed.

    Copies from the device wait for it: call it at checkpoints only. Raises OSError, and what safetensors raises for
    weights that it cannot hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder, prefix=f".{name}."))
    try:
        save_model(model, str(beside / WEIGHTS))  # names of tied weights but one are left out, and listed within
        if training is not None:
            torch.save(dict(training), beside / TRAINING)
        sums = {file.name: file_sum(file) for file in sorted(beside.iterdir())}
        (beside / ABOUT).write_text(json.dumps({**about, "sha256": sums}, indent=1, default=str) + "\n", "utf-8")
        umask = os.umask(0)
        os.umask(umask)
        for path in (*beside.iterdir(), beside):
            path.chmod((0o777 if path is beside else 0o666) & ~umask)  # mkdtemp and safetensors make them private
            _to_disk(path)
        target = folder / name
        shutil.rmtree(target, ignore_errors=True)
        beside.rename(target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    _to_disk(folder)
    return target


def read_state(folder: Path) -> StateFile:
    """The checkpoint in `folder`, every byte of it compared with its sum. Raises CheckpointError."""
    try:
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        broken = [name for name, known in about["sha256"].items() if file_sum(folder / name) != known]
    except OSError as error:
        raise CheckpointError(f"{folder} is no checkpoint of a smoke: {error.strerror}: {error.filename}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / ABOUT} is not what a smoke writes: {error!r:.200}") from None
    if not isinstance(about.get("step"), int):
        raise CheckpointError(f"{folder / ABOUT}: 'step' is {about.get('step')!r}; it must be a whole number")
    if broken:
        raise CheckpointError(f"{folder} is damaged: {', '.join(broken)} is not what was written (sha256)")
    return StateFile(folder=folder, about=about)


def load_torch(path: Path) -> Any:
    """What `torch.save` wrote, tensors on the CPU, nothing executed (`weights_only`). Raises CheckpointError."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    except Exception as error:  # a pickle can fail in any way
        first = next((line for line in str(error).splitlines() if "Unsupported" in line), str(error).split("\n")[0])
        raise CheckpointError(
            f"{path} is no file of tensors and plain values that torch.load(weights_only=True) takes: {first.strip()}"
        ) from None


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
