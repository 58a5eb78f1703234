"""Loss terms differentiated one by one: who pulls how hard, and against whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import nan, sqrt

import torch
from torch import Tensor

from pytest_smoke.events import Gradients


def factor_of(weight: float) -> float:
    """What a term is differentiated with: its weight, as in an ordinary step; a term whose weight is 0, as it is."""
    return weight or 1.0


class TermGradients:
    """The gradients of N weighted terms over one effective batch, kept apart.

    Costs N - 1 more backward passes than an ordinary step and N times the memory of its gradient. Their sum is the
    step's gradient, so a probed step trains like any other. `backward` and not `autograd.grad`, which passes by the
    bodies of reentrant checkpoints.
    """

    def __init__(self, terms: Sequence[str], weights: Sequence[float], parameters: Sequence[Tensor]) -> None:
        self._factors = [factor_of(weight) for weight in weights]
        self._silent = [weight == 0.0 for weight in weights]
        self._parameters = parameters
        self._gradients: list[list[Tensor | None]] = [[None] * len(parameters) for _ in terms]

    def add(self, losses: Sequence[Tensor], scale: Callable[[Tensor], Tensor]) -> None:
        """Differentiate one micro-batch's terms (scalars, times the micro-batch's share); `scale` is the scaler's."""
        live = [k for k, loss in enumerate(losses) if loss.requires_grad]
        for k in live:
            self._forget()
            scaled = scale(losses[k] * self._factors[k])
            scaled.backward(retain_graph=k != live[-1])  # type: ignore[no-untyped-call]  # torch types it so
            kept = self._gradients[k]
            for i, parameter in enumerate(self._parameters):
                earlier, gradient = kept[i], parameter.grad
                # Two parameters may share one gradient tensor: nothing is added in place.
                kept[i] = gradient if earlier is None else earlier if gradient is None else earlier + gradient
        self._forget()

    def _forget(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def combine(self) -> None:
        """Set every parameter's `grad` to the sum over the terms that have a weight."""
        for i, parameter in enumerate(self._parameters):
            total: Tensor | None = None
            for silent, gradients in zip(self._silent, self._gradients, strict=True):
                gradient = gradients[i]
                if gradient is not None and not silent:
                    total = gradient if total is None else total + gradient
            parameter.grad = total

    def gram(self) -> Tensor:
        """Inner products of the terms' weighted gradients, float32 [N * N] (row by row), on the device."""
        size = len(self._factors)
        gram = torch.zeros(size, size, device=self._parameters[0].device)
        for i, parameter in enumerate(self._parameters):
            rows = [gradients[i] for gradients in self._gradients]
            if any(row is not None for row in rows):
                flat = torch.stack([torch.zeros_like(parameter) if row is None else row for row in rows])
                flat = flat.reshape(size, -1).float()
                gram += flat @ flat.T
        return gram.flatten()


def reading(
    step: int, terms: tuple[str, ...], weights: Sequence[float], gram: Sequence[float], *, postmortem: bool = False
) -> Gradients:
    """Raw norms, weighted norms and cosines from the inner products `gram` [N * N] of the weighted gradients."""
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
