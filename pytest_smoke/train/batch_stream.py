"""What a run draws, step by step, and where in it the run is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_smoke.train.data import loaders, one_step
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.task import Task


class BatchStream:
    """The ranks' micro-batches, folded into steps."""

    def __init__(self, task: Task, plan: RunPlan, *, seed: int) -> None:
        self._task, self._plan = task, plan
        self.restart(seed)

    def restart(self, seed: int, *, states: Sequence[Any] | None = None) -> None:
        """Draw from the beginning, in the order of `seed`; or from where the loaders were that gave `states`.

        States are loaded before anything is drawn, as torchdata's StatefulDataLoader wants it.
        """
        self._loaders = loaders(self._task, self._plan, seed)
        if states is not None:
            for loader, state in zip(self._loaders, states, strict=True):
                loader.load_state_dict(state)
        self._ranks = [iter(loader) for loader in self._loaders]

    def draw(self) -> list[Any]:
        """The next step's micro-batches, on the host. Raises TaskError where there are no more."""
        return one_step(self._ranks, self._plan.micro_batches)

    def states(self) -> list[Any] | None:
        """What the ranks' loaders say of where they are; None where they cannot."""
        return [loader.state_dict() for loader in self._loaders] if all(map(_knows, self._loaders)) else None


def _knows(loader: Any) -> bool:
    return callable(getattr(loader, "state_dict", None)) and callable(getattr(loader, "load_state_dict", None))
