"""A model's weights from whatever file they lie in, and whether they fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pytest_smoke.errors import CheckpointError
from pytest_smoke.train.checkpoints.io import StateFile, load_torch, read_state
from pytest_smoke.train.checkpoints.layout import ABOUT

WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Keys under which trainers keep the weights beside other things."""
COMPILED, PARALLEL = "_orig_mod.", "module."
"""What torch.compile and DistributedDataParallel put into names."""
NAMED = 3
"""Names a sentence gives before it counts the rest."""


def state_at(path: Path) -> StateFile | None:
    """The smoke's own checkpoint that `path` is, or is a file of; None for any other file. Raises CheckpointError."""
    if path.is_dir():
        return read_state(path)
    own = path.exists() and (path.parent / ABOUT).exists()
    return read_state(path.parent) if own else None


def read_weights(path: Path) -> dict[str, Any]:
    """Tensors by name from a smoke's checkpoint, a safetensors file or a `torch.save`d state_dict.

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
            raise CheckpointError(f"{path} is no safetensors file: {error}") from None
    loaded = load_torch(path)
    if isinstance(loaded, Mapping):
        inner = next((loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), Mapping)), loaded)
        if any(isinstance(value, Tensor) for value in inner.values()):
            return dict(inner)
    keys = f" with the keys {_named([str(key) for key in loaded])}" if isinstance(loaded, Mapping) else ""
    raise CheckpointError(
        f"{path} holds a {type(loaded).__name__}{keys}, not weights by name; "
        f"a state_dict is wanted, or one under {', '.join(WRAPPERS)}"
    )


def load_weights(model: nn.Module, given: Mapping[str, Any], *, source: str) -> None:
    """Load all of `given` into all of `model`; tied weights need one of their names.

    Raises CheckpointError that names what is missing, unexpected or of another shape; the model is spoilt then.
    """
    live = model.state_dict()
    names = {name.replace(COMPILED, ""): name for name in live}
    bare = {name.replace(COMPILED, ""): value for name, value in given.items()}
    if all(name.startswith(PARALLEL) for name in bare) and not any(name.startswith(PARALLEL) for name in names):
        bare = {name.removeprefix(PARALLEL): value for name, value in bare.items()}
    state = {names.get(name, name): value for name, value in bare.items()}
    faults = [
        f"{name} has shape {list(value.shape)}, the model's has {list(live[name].shape)}"
        for name, value in state.items()
        if name in live and isinstance(value, Tensor) and value.shape != live[name].shape
    ]
    if not faults:
        missing, unexpected = model.load_state_dict(state, strict=False)
        loaded = {_place(live[name]) for name in state if isinstance(live.get(name), Tensor)}
        missing = [name for name in missing if not isinstance(live[name], Tensor) or _place(live[name]) not in loaded]
        if missing:
            faults.append(f"{len(missing)} missing: {_named(missing)}")
        if unexpected:
            faults.append(f"{len(unexpected)} unexpected: {_named(unexpected)}")
    if faults:
        raise CheckpointError(f"{source} does not fit the recipe's model ({len(live)} tensors): {_named(faults, '; ')}")


def _place(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def _named(names: Sequence[str], joint: str = ", ") -> str:
    rest = len(names) - NAMED
    return joint.join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
