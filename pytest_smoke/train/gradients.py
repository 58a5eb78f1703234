"""Differentiate loss terms one by one, to compare the size and direction of their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import nan, sqrt

import torch
from torch import Tensor

from pytest_smoke.events import Gradients
from pytest_smoke.train.sharding import Sharding, local


def factor_of(weight: float) -> float:
    """Return what a term is multiplied by before it is differentiated: its weight, or 1 if the weight is 0."""
    return weight or 1.0


class TermGradients:
    """The gradients of N weighted loss terms over one effective batch, one by one.

    Costs N - 1 more backward passes than an ordinary step and N times the memory of its gradient. Their sum is the
    gradient of the step, so a step with a gradient probe trains like any other. Uses `backward` because `autograd.grad`
    skips the bodies of reentrant activation checkpoints.
    """

    def __init__(self, terms: Sequence[str], weights: Sequence[float], parameters: Sequence[Tensor]) -> None:
        self._factors = [factor_of(weight) for weight in weights]
        self._has_no_weight = [weight == 0.0 for weight in weights]
        self._parameters = parameters
        self._gradients: list[list[Tensor | None]] = [[None] * len(parameters) for _ in terms]

    def add(
        self,
        losses: Sequence[Tensor],
        scale: Callable[[Tensor], Tensor],
        finish: Callable[[Sequence[Tensor]], None] | None = None,
    ) -> None:
        """Differentiate the terms of one micro-batch (scalars, times its share of the step) and add the gradients.

        `scale` is the `scale` of the loss scaler. `finish` completes the gradients after each backward pass.
        """
        differentiable = [k for k, loss in enumerate(losses) if loss.requires_grad]
        for k in differentiable:
            self._clear()
            scaled = scale(losses[k] * self._factors[k])
            scaled.backward(retain_graph=k != differentiable[-1])  # type: ignore[no-untyped-call]  # torch types it so
            if finish is not None:
                finish(self._parameters)
            totals = self._gradients[k]
            for i, parameter in enumerate(self._parameters):
                earlier, gradient = totals[i], parameter.grad
                # Not in place: two parameters may share one gradient tensor.
                totals[i] = gradient if earlier is None else earlier if gradient is None else earlier + gradient
        self._clear()

    def add_up(self, over_ranks: Callable[[list[list[Tensor | None]], Sequence[Tensor]], None]) -> None:
        """Add the gradients up over the processes of the run."""
        over_ranks(self._gradients, self._parameters)

    def _clear(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def combine(self) -> None:
        """Set the `grad` of every parameter to the sum over the terms whose weight is not 0."""
        for i, parameter in enumerate(self._parameters):
            total: Tensor | None = None
            for has_no_weight, gradients in zip(self._has_no_weight, self._gradients, strict=True):
                gradient = gradients[i]
                if gradient is not None and not has_no_weight:
                    total = gradient if total is None else total + gradient
            parameter.grad = total

    def gram(self, sharding: Sharding | None = None) -> Tensor:
        """Return the inner products of the terms' weighted gradients: float32 [N * N], row by row, on the device.

        `sharding`: the processes that hold parts of the parameters, all of which call this.
        """
        size = len(self._factors)
        gram = torch.zeros(size, size, device=self._parameters[0].device)
        for i, parameter in enumerate(self._parameters):
            rows = [None if (row := gradients[i]) is None else local(row) for gradients in self._gradients]
            part = local(parameter)
            if part.numel() and any(row is not None for row in rows):
                flat = torch.stack([torch.zeros_like(part) if row is None else row for row in rows])
                flat = flat.reshape(size, -1).float()
                gram += flat @ flat.T if sharding is None else flat @ flat.T / sharding.copies_of(parameter)
        return gram.flatten() if sharding is None else sharding.summed(gram.flatten())


def gradients_event(
    step: int, terms: tuple[str, ...], weights: Sequence[float], gram: Sequence[float], *, postmortem: bool = False
) -> Gradients:
    """Return raw norms, weighted norms and cosines, from the inner products `gram` [N * N] of the weighted gradients.

    A raw norm is the square root of an inner product divided by the squared weight.
    """
    size, factors = len(terms), [factor_of(weight) for weight in weights]
    raw = [[gram[a * size + b] / (factors[a] * factors[b]) for b in range(size)] for a in range(size)]
    norms = [sqrt(square) if (square := raw[k][k]) > 0 else abs(square) for k in range(size)]
    cosines = {}
    for a, b in combinations(range(size), 2):
        product = norms[a] * norms[b]
        cosines[f"{terms[a]}/{terms[b]}"] = raw[a][b] / product if product > 0 else nan
    return Gradients(
        step=step,
        raw=dict(zip(terms, norms, strict=True)),
        weighted={term: norm * abs(weight) for term, norm, weight in zip(terms, norms, weights, strict=True)},
        cosines=cosines,
        postmortem=postmortem,
    )
