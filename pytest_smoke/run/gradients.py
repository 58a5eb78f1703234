"""Loss terms differentiated one by one: who pulls how hard, and against whom."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from pytest_smoke.run.records import Gradients


class TermGradients:
    """The gradients of N terms over one effective batch, kept apart.

    Costs N - 1 more backward passes than an ordinary step and N times the memory of its gradient. Their weighted sum
    is the step's gradient, so a probed step trains like any other.
    """

    def __init__(self, terms: tuple[str, ...], parameters: Sequence[Tensor]) -> None:
        self._terms = terms
        self._parameters = parameters
        self._gradients: list[list[Tensor | None]] = [[None] * len(parameters) for _ in terms]

    def add(self, losses: Sequence[Tensor]) -> None:
        """Differentiate one micro-batch's terms (scalars, already multiplied by the micro-batch's share)."""
        live = [k for k, loss in enumerate(losses) if loss.requires_grad]
        for k in live:
            found = torch.autograd.grad(
                losses[k], self._parameters, retain_graph=k != live[-1], allow_unused=True, materialize_grads=False
            )
            kept = self._gradients[k]
            for i, gradient in enumerate(found):
                if gradient is not None:
                    earlier = kept[i]
                    kept[i] = gradient if earlier is None else earlier.add_(gradient)

    def combine(self, weights: Sequence[float]) -> None:
        """Set every parameter's `grad` to the weighted sum over the terms."""
        for i, parameter in enumerate(self._parameters):
            total: Tensor | None = None
            for weight, gradients in zip(weights, self._gradients, strict=True):
                gradient = gradients[i]
                if gradient is not None:
                    total = gradient * weight if total is None else total.add_(gradient, alpha=weight)
            parameter.grad = total

    def gram(self) -> Tensor:
        """Inner products of the terms' gradients, float32 [N * N] (row by row), on the device."""
        size = len(self._terms)
        gram = torch.zeros(size, size, device=self._parameters[0].device)
        for i, parameter in enumerate(self._parameters):
            rows = [gradients[i] for gradients in self._gradients]
            if any(row is not None for row in rows):
                flat = torch.stack([torch.zeros_like(parameter) if row is None else row for row in rows])
                flat = flat.reshape(size, -1).float()
                gram += flat @ flat.T
        return gram.flatten()


def reading(
    step: int, terms: tuple[str, ...], weights: Sequence[float], gram: Sequence[float], *, autopsy: bool = False
) -> Gradients:
    """Norms and cosines from the inner products `gram` [N * N]."""
    size = len(terms)
    norms = [
        max(gram[k * size + k], 0.0) ** 0.5 if gram[k * size + k] == gram[k * size + k] else float("nan")
        for k in range(size)
    ]
    cosines = {}
    for a, b in combinations(range(size), 2):
        product = norms[a] * norms[b]
        cosines[f"{terms[a]}/{terms[b]}"] = gram[a * size + b] / product if product > 0 else float("nan")
    return Gradients(
        step=step,
        raw=dict(zip(terms, norms, strict=True)),
        weighted={term: norm * abs(weight) for term, norm, weight in zip(terms, norms, weights, strict=True)},
        cosines=cosines,
        autopsy=autopsy,
    )
