"""Check in every window of a run whether its parameters move, from the copies of weights in host memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from pytest_smoke.events import Window
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.checkpoints.in_memory import Copy, WeightHistory
from pytest_smoke.train.sharding import local
from pytest_smoke.train.stepping import Stepping

FIRST_CHUNK = 4096
"""Elements that are compared first: in a parameter that trains they nearly always differ."""
CHUNK_GROWTH = 16
"""Factor by which each further chunk is longer than the one before."""


STOPPED_STEPS = 50
"""Steps of half a stage from which on a parameter that does not change in them is said to have stopped: one that a
batch uses with a probability of 10 % stays unused for 50 steps in 0.5 % of cases."""


class Movement:
    """Compares the parameters that require a gradient in consecutive copies of `weights`."""

    def __init__(self, stepper: Stepping, weights: WeightHistory) -> None:
        self._stepper, self._weights = stepper, weights
        self._held_at_start, self._names_at_start = self._held(), self._trainable().keys()
        self._last_moved: dict[str, int] = {}
        """End of the last window in which a parameter changed, by name."""
        self._counts_before = self._counts()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs of earlier windows, as builtins."""
        return {"last_moved": dict(self._last_moved)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._last_moved = dict(state["last_moved"])

    def at_copy(self) -> Window | None:
        """Compare the newest two copies; None if there is only one. On CUDA this waits for the newest."""
        copies = self._weights.newest_two()
        return None if copies is None else self._compare(*copies)

    def at_end(self, end: int) -> Window | None:
        """Compare the parameters after the last step, `end` - 1, with the newest copy. Waits for the device."""
        newest = self._weights.newest()
        if newest is None or newest[0] >= end:
            return None
        return self._compare(newest, (end, {name: local(p.detach()).cpu() for name, p in self._trainable().items()}))

    def stopped(self, stage: Stage) -> dict[str, int]:
        """Return the parameters that changed, but in no window of the second half of `stage`, and since which step.

        Parameters that were frozen in between are among them if they are more than half of those that changed: what is
        left is not the run that was to be judged. Empty if the second half is short: an expert or an embedding may get
        no gradient for a while.
        """
        half = stage.first_step + stage.steps // 2
        if stage.end - half < STOPPED_STEPS:
            return {}
        trainable, now = self._trainable(), dict(self._stepper.model.named_parameters())
        frozen = [name for name in self._last_moved if name in now and name not in trainable]
        watched = now if 2 * len(frozen) > len(self._last_moved) else trainable
        return {name: step for name, step in self._last_moved.items() if step <= half and name in watched}

    def _compare(self, older: Copy, newer: Copy) -> Window:
        (first_step, before), (end_step, after) = older, newer
        trainable, held = self._trainable(), self._held()
        names = [name for name in trainable if name in before and name in after]
        flags = self._stepper.parts.anywhere([differs(before[name], after[name]) for name in names])
        moved = [name for name, has_moved in zip(names, flags, strict=True) if has_moved]
        self._last_moved |= dict.fromkeys(moved, end_step)
        gone = (self._held_at_start | (trainable.keys() - self._names_at_start)) - held
        (stepped_before, without_grad_before), (stepped, without_grad) = self._counts_before, self._counts()
        self._counts_before = stepped, without_grad
        return Window(
            first_step=first_step,
            end_step=end_step,
            moved=len(moved),
            trainable=len(names),
            held=len(held),
            stepped=stepped - stepped_before,
            without_grad=without_grad - without_grad_before,
            replaced=tuple(name for name in trainable if name in gone),
        )

    def _counts(self) -> tuple[int, int]:
        return self._stepper.steps_called, self._stepper.steps_without_grad

    def _trainable(self) -> dict[str, Tensor]:
        return {name: p for name, p in self._stepper.model.named_parameters() if p.requires_grad}

    def _held(self) -> set[str]:
        held = {id(p) for group in self._stepper.optimizer.param_groups for p in group["params"]}
        return {name for name, p in self._trainable().items() if id(p) in held}


def differs(a: Tensor, b: Tensor) -> bool:
    """Tell whether two tensors on the host differ in any bit pattern or in shape; NaN differs from itself."""
    if a.shape != b.shape:
        return True
    return any(not torch.equal(*parts) for parts in _chunks(a.reshape(-1), b.reshape(-1)))


def _chunks(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    first, size = 0, FIRST_CHUNK
    while first < a.numel():
        yield a[first : first + size], b[first : first + size]
        first, size = first + size, size * CHUNK_GROWTH
