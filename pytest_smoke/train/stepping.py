"""What the instruments of a run need of whatever makes its steps: our own loop, or a trainer with a loop of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pytest_smoke.recipe.stages import Stage
from pytest_smoke.train.plan import RunPlan


class Parts(Protocol):
    """How the processes of a run share the parameters of its model."""

    @property
    def computes_in_half(self) -> bool:
        """Whether parts of the model compute in 16 bits without autocast."""

    def anywhere(self, flags: Sequence[bool]) -> list[bool]:
        """Return flags about this process's parts of parameters, each set if it is in any process of the run."""

    def gathered(self) -> AbstractContextManager[None]:
        """Return a context in which this process can make passes that the other ones of the run do not make."""


class Stepping(Protocol):
    """A model and its optimizer, and how often the optimizer has stepped."""

    @property
    def model(self) -> nn.Module:
        """The model that trains."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Its optimizer."""

    @property
    def steps_called(self) -> int:
        """Updates in which the `step` of the optimizer ran."""

    @property
    def steps_without_grad(self) -> int:
        """Updates after whose losses gradients were disabled."""

    @property
    def parts(self) -> Parts:
        """How the processes of the run share its parameters."""


class Rerunning(Stepping, Protocol):
    """Can also compute the losses and gradients of a batch again, apart from training."""

    terms: tuple[str, ...]
    """Names of the loss terms."""
    weights: tuple[float, ...]
    """Weights of the loss terms, in the same order."""

    @property
    def plan(self) -> RunPlan:
        """The run."""

    @property
    def device(self) -> torch.device:
        """The device of the model."""

    @property
    def stage(self) -> Stage:
        """The stage that trains."""

    @property
    def scaler(self) -> Any:
        """The loss scaler, as `torch.amp.GradScaler`."""

    @property
    def keeps_autocast(self) -> bool:
        """Whether `gradient` runs in the precision of training, and `autocast` cannot be left out."""

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the plan's precision applies."""

    def gradient(self, batches: Sequence[Any]) -> tuple[list[Tensor | None], list[Tensor]]:
        """Return the gradient of the weighted loss over micro-batches by parameter, and the terms' means.

        Without a step.
        """

    def clear_gradients(self) -> None:
        """Set the gradients of all parameters to None."""
