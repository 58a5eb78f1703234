"""Read and write checkpoints: a folder with the weights, the training state, and a JSON file that describes them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file, save_model
from torch import Tensor, nn

from pytest_smoke.errors import CheckpointError
from pytest_smoke.files import file_sha256, is_plain_name, read_json, sync_to_disk
from pytest_smoke.text import count, listed
from pytest_smoke.train.checkpoints.layout import ABOUT, TRAINING, WEIGHTS
from pytest_smoke.train.digest import digest, leaves
from pytest_smoke.train.in_place import write_
from pytest_smoke.train.sharding import COMPILED
from pytest_smoke.train.step import Stepper

WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Keys under which trainers save the weights next to other things."""
PARALLEL = "module."
"""Prefix that DistributedDataParallel puts into names."""
NAMES_SHOWN = 3
"""Names that a message lists before it counts the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateFile:
    """A checkpoint on disk whose checksums are right."""

    folder: Path
    about: Mapping[str, Any]
    """`step`, `kind`, node id, recipe, task, arguments, seed, versions, settings, and `sha256` by file."""

    @property
    def step(self) -> int:
        """The optimizer step that comes next."""
        return int(self.about["step"])

    @property
    def weights(self) -> Path:
        """The file with the model's weights."""
        return self.folder / WEIGHTS

    def training(self) -> dict[str, Any]:
        """Load optimizer, loss scaler, generators and data position, on the CPU. Raises CheckpointError."""
        if TRAINING not in self.about["sha256"]:
            raise CheckpointError(f"{self.folder} holds weights only: a run cannot be resumed from it")
        loaded: dict[str, Any] = load_torch(self.folder / TRAINING)
        return loaded


def weights_of(stepper: Stepper) -> nn.Module | dict[str, Tensor]:
    """Return what `write_state` saves: the model, or the whole weights of a sharded one, which all processes gather."""
    return stepper.model if stepper.sharding is None else stepper.sharding.whole_weights()


def optimizer_state(stepper: Stepper) -> dict[str, Any]:
    """Return the state of the optimizer; of a sharded model the whole one, by names, in the first process."""
    if stepper.sharding is None:
        return stepper.optimizer.state_dict()
    return stepper.sharding.whole_optimizer(stepper.optimizer)


def write_state(
    folder: Path,
    name: str,
    weights: nn.Module | Mapping[str, Tensor],
    training: Mapping[str, Any] | None,
    about: Mapping[str, Any],
) -> Path:
    """Write the checkpoint `folder/name` under a temporary name, flush it to the disk, and rename it.

    Waits for the device. Raises OSError, and whatever safetensors raises for weights that it does not support.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.{os.urandom(4).hex()}"
    temporary.mkdir()
    try:
        if isinstance(weights, nn.Module):
            save_model(weights, str(temporary / WEIGHTS))  # of tied weights one, and a list of the others' names
        else:
            save_file(_each_once(weights), temporary / WEIGHTS)
        if training is not None:
            torch.save(dict(training), temporary / TRAINING)
        checksums = {file.name: file_sha256(file) for file in sorted(temporary.iterdir())}
        text = json.dumps({**about, "sha256": checksums}, indent=1, default=str) + "\n"
        (temporary / ABOUT).write_text(text, "utf-8")
        mode = temporary.stat().st_mode & 0o666  # by the umask; safetensors makes files that only their owner may read
        for path in temporary.iterdir():
            path.chmod(mode)
            sync_to_disk(path)
        sync_to_disk(temporary)
        target = folder / name
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_to_disk(folder)
    return target


def read_state(folder: Path) -> StateFile:
    """Return the checkpoint in `folder` after comparing all of its checksums. Raises CheckpointError."""
    try:
        about = read_json(folder / ABOUT)
        sums = about["sha256"]
        if outside := [name for name in sums if not is_plain_name(name)]:
            raise ValueError(f"'sha256' names {outside[0]!r:.60}, which is not in the same folder")
        damaged = [name for name, known in sums.items() if file_sha256(folder / name) != known]
    except OSError as error:
        raise CheckpointError(
            f"{folder} is not a checkpoint of a smoke run: {error.strerror}: {error.filename}"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / ABOUT} is not the description of a checkpoint: {error!r:.200}") from None
    step = about.get("step")
    if type(step) is not int or step < 0:
        raise CheckpointError(f"{folder / ABOUT}: 'step' is {step!r}; it must be an integer, 0 or more")
    if damaged:
        raise CheckpointError(f"{folder} is damaged: {listed(damaged)} changed since it was written (SHA-256)")
    return StateFile(folder=folder, about=about)


def load_torch(path: Path) -> Any:
    """Load what `torch.save` wrote, tensors on the CPU, with `weights_only=True`. Raises CheckpointError."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    except Exception as error:  # a pickle can fail with any exception
        lines = str(error).splitlines() or [type(error).__name__]
        refused = next((line.strip() for line in lines if "unsupported" in line.lower()), "")
        # The first line also advises to switch weights_only off, so that the file can execute code.
        why = refused or lines[0].partition(" In PyTorch 2.6, we changed")[0]
        raise CheckpointError(
            f"{path} cannot be read by torch.load(weights_only=True), which accepts tensors and plain values: {why}"
        ) from None


def state_at(path: Path) -> StateFile | None:
    """Return the checkpoint of a smoke run that `path` is, or is a file of; None for any other file.

    Raises CheckpointError.
    """
    if path.is_dir():
        return read_state(path)
    return read_state(path.parent) if path.exists() and (path.parent / ABOUT).exists() else None


def read_weights(path: Path) -> dict[str, Any]:
    """Return tensors by name from a checkpoint of a smoke run, a safetensors file or a `torch.save`d state_dict.

    Raises CheckpointError.
    """
    state = state_at(path)
    if state is not None:
        path = state.weights
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror or error}") from None
        except SafetensorError as error:
            raise CheckpointError(f"{path} is not a safetensors file: {error}") from None
    loaded = load_torch(path)
    if isinstance(loaded, Mapping):
        inner = next((loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), Mapping)), loaded)
        if any(isinstance(value, Tensor) for value in inner.values()):
            return dict(inner)
    keys = f" with the keys {listed(loaded, limit=NAMES_SHOWN)}" if isinstance(loaded, Mapping) else ""
    raise CheckpointError(
        f"{path} holds a {type(loaded).__name__}{keys}; it must hold a state_dict, or one under the key "
        f"{', '.join(WRAPPERS[:-1])} or {WRAPPERS[-1]}"
    )


def load_weights(model: nn.Module, given: Mapping[str, Any], *, source: str) -> None:
    """Load all of `given` into all of `model`; tied weights need only one of their names.

    Raises CheckpointError that names what is missing, unexpected or of another shape; the model may be partly loaded.
    """
    live = model.state_dict()
    names = {name.replace(COMPILED, ""): name for name in live}
    bare = {name.replace(COMPILED, ""): value for name, value in given.items()}
    if all(name.startswith(PARALLEL) for name in bare) and not any(name.startswith(PARALLEL) for name in names):
        bare = {name.removeprefix(PARALLEL): value for name, value in bare.items()}
    state = {names.get(name, name): value for name, value in bare.items()}
    faults = [
        f"{name} has shape {list(value.shape)}, the model has {list(live[name].shape)}"
        for name, value in state.items()
        if name in live and isinstance(value, Tensor) and value.shape != live[name].shape
    ]
    if not faults:
        missing, unexpected = model.load_state_dict(state, strict=False)
        loaded = {_storage(live[name]) for name in state if isinstance(live.get(name), Tensor)}
        missing = [name for name in missing if not isinstance(live[name], Tensor) or _storage(live[name]) not in loaded]
        for kind, found in (("missing", missing), ("unexpected", unexpected)):
            if found:
                faults.append(f"{len(found)} {kind}: {listed(found, limit=NAMES_SHOWN)}")
    if faults:
        tensors = count(len(live), "tensor")
        raise CheckpointError(f"{source} does not fit the recipe's model ({tensors}): {_shortened(faults)}")


def load_state(state: StateFile, training: Mapping[str, Any], stepper: Stepper) -> None:
    """Load weights, optimizer and loss scaler; `training` is that of the state. Raises CheckpointError."""
    weights, sharding = read_weights(state.folder), stepper.sharding
    if sharding is None:
        load_weights(stepper.model, weights, source=str(state.folder))
    try:
        if sharding is None:
            stepper.optimizer.load_state_dict(training["optimizer"])
        else:
            sharding.load(weights, stepper.optimizer, training["optimizer"])
        stepper.scaler.load_state_dict(training["scaler"])
    except Exception as error:  # of the task's own optimizer
        raise CheckpointError(
            f"{state.folder} does not fit the recipe's optimizer: {type(error).__name__}: {error}"
        ) from error


def saved_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return copies on the CPU of the buffers in a model's state_dict, by name: processes may have different values."""
    saved = model.state_dict().keys()
    return {name: buffer.detach().to("cpu", copy=True) for name, buffer in model.named_buffers() if name in saved}


def load_buffers(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Set the buffers of `saved_buffers` again, in place."""
    for name, buffer in model.named_buffers():
        if name in saved:
            write_(buffer.detach(), saved[name])


def fingerprints(stepper: Stepper) -> dict[str, str]:
    """Return a digest by name of every parameter, buffer (persistent or not) and tensor of the optimizer."""
    model: nn.Module = stepper.model
    named = {
        **{f"parameter {name}": value for name, value in model.named_parameters()},
        **{f"buffer {name}": value for name, value in model.named_buffers()},
        **{f"optimizer {path}": value for path, value in leaves(stepper.optimizer.state_dict()["state"])},
    }
    return {name: digest(value) for name, value in named.items()}


def changed(saved: Mapping[str, str], stepper: Stepper) -> tuple[str, ...]:
    """Return the names whose fingerprint differs from the saved one."""
    now = fingerprints(stepper)
    return tuple(name for name in {**saved, **now} if saved.get(name) != now.get(name))


def _each_once(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without those that share their memory with an earlier one, which safetensors refuses."""
    seen: set[tuple[Any, ...]] = set()
    kept: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if not tensor.numel() or _storage(tensor) not in seen:
            seen.add(_storage(tensor))
            kept[name] = tensor.contiguous()
    return kept


def _storage(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def _shortened(faults: Sequence[str]) -> str:
    hidden = len(faults) - NAMES_SHOWN
    return "; ".join(faults[:NAMES_SHOWN]) + (f"; and {hidden} more" if hidden > 0 else "")
