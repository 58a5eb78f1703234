"""Put a saved state into a fresh model and optimizer, and see whether it is the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from pytest_smoke.errors import CheckpointError
from pytest_smoke.train.checkpoints.io import StateFile
from pytest_smoke.train.checkpoints.weights import load_weights, read_weights
from pytest_smoke.train.digest import digest, leaves
from pytest_smoke.train.step import Stepper


def load_state(state: StateFile, training: Mapping[str, Any], stepper: Stepper) -> None:
    """Load weights, optimizer and loss scaler, the latter two from `state.training()`. Raises CheckpointError."""
    load_weights(stepper.model, read_weights(state.folder), source=str(state.folder))
    try:
        stepper.optimizer.load_state_dict(training["optimizer"])
        stepper.scaler.load_state_dict(training["scaler"])
    except Exception as error:  # of the task's own optimizer
        raise CheckpointError(
            f"{state.folder} does not fit the recipe's optimizer: {type(error).__name__}: {error}"
        ) from error


def fingerprints(stepper: Stepper) -> dict[str, str]:
    """A digest by name of every parameter, buffer (those too that no state_dict holds) and optimizer tensor."""
    model: nn.Module = stepper.model
    named = {
        **{f"parameter {name}": value for name, value in model.named_parameters()},
        **{f"buffer {name}": value for name, value in model.named_buffers()},
        **{f"optimizer {path}": value for path, value in leaves(stepper.optimizer.state_dict()["state"])},
    }
    return {name: digest(value) for name, value in named.items()}


def changed(saved: Mapping[str, str], stepper: Stepper) -> tuple[str, ...]:
    """Names whose digest is another than when it was saved."""
    now = fingerprints(stepper)
    return tuple(name for name in {**saved, **now} if saved.get(name) != now.get(name))
