"""Small layers and optimizers that several families share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer


def mlp(*sizes: int, activation: Callable[[], nn.Module] = nn.Tanh) -> nn.Sequential:
    """Build a multilayer perceptron; no activation after the last layer."""
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(inputs, outputs))
        if i < len(sizes) - 2:
            layers.append(activation())
    return nn.Sequential(*layers)


class Block(nn.Module):
    """A pre-norm transformer block with single-head attention: (batch, time, width) to the same shape."""

    def __init__(self, width: int, causal: bool):
        super().__init__()
        self.causal = causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply attention and a feed-forward layer, both residual."""
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if self.causal:
            size = x.shape[1]
            scores = scores.masked_fill(torch.ones(size, size).triu(1).bool(), -math.inf)
        x = x + self.out(scores.softmax(-1) @ v)
        return x + self.narrow(F.relu(self.wide(self.norm2(x))))


class Transformer(nn.Module):
    """A transformer of token ids with learned positions: (batch, time) to (batch, time, outputs)."""

    def __init__(self, vocabulary: int, time: int, outputs: int, width: int = 24, depth: int = 1, causal: bool = True):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.1 * torch.randn(time, width))
        self.blocks = nn.Sequential(*(Block(width, causal) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs))

    def forward(self, ids: Tensor) -> Tensor:
        """Return the logits at each position."""
        out: Tensor = self.head(self.blocks(self.tokens(ids) + self.positions[: ids.shape[1]]))
        return out


class _PlainOptimizer(Optimizer):
    """An optimizer that applies `direction` to each parameter."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float):
        super().__init__(parameters, {"lr": lr})

    def direction(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any]) -> Tensor:
        """Return the update per unit of learning rate."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(group["lr"] * self.direction(parameter, parameter.grad, self.state[parameter]))


class Lion(_PlainOptimizer):
    """Lion (Chen et al. 2023): the sign of an interpolated momentum; betas 0.9 and 0.99."""

    def direction(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any]) -> Tensor:
        """Return sign(0.9 m + 0.1 g), and update m."""
        m = state.setdefault("m", torch.zeros_like(parameter))
        update = torch.sign(0.9 * m + 0.1 * gradient)
        m.mul_(0.99).add_(gradient, alpha=0.01)
        return update


class Muon(_PlainOptimizer):
    """Muon (Jordan 2024): momentum 0.95, orthogonalised by five Newton-Schulz steps for matrices."""

    def direction(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any]) -> Tensor:
        """Return the orthogonalised momentum; for vectors its sign."""
        m = state.setdefault("m", torch.zeros_like(parameter))
        m.mul_(0.95).add_(gradient)
        update = gradient + 0.95 * m
        if update.ndim != 2:
            return 0.1 * torch.sign(update)
        x = update / (update.norm() + 1e-7)
        x = x.T if x.shape[0] > x.shape[1] else x
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return x if x.shape == update.shape else x.T


class Lamb(_PlainOptimizer):
    """LAMB (You et al. 2019): Adam's direction scaled to the norm of the parameter."""

    def direction(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any]) -> Tensor:
        """Return the trust ratio times Adam's bias-corrected direction."""
        if not state:
            state.update(m=torch.zeros_like(parameter), v=torch.zeros_like(parameter), t=0)
        state["t"] += 1
        state["m"].mul_(0.9).add_(gradient, alpha=0.1)
        state["v"].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        m, v = state["m"] / (1 - 0.9 ** state["t"]), state["v"] / (1 - 0.999 ** state["t"])
        update: Tensor = m / (v.sqrt() + 1e-6)
        norm, size = float(update.norm()), float(parameter.norm())
        return update * (min(size, 10.0) / norm) if norm > 0 and size > 0 else update
