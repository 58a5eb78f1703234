"""Predict the next character with a small causal transformer, on the text of Python's own help topics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HELD_OUT_SHARE = 0.1
"""Share of the text, at its end, that is kept for evaluation."""
EVALUATION_WINDOWS = 64
"""Windows of the held-out text that are evaluated."""


class CharLm:
    """A character-level language model. Shapes: B windows, T characters, V characters in the alphabet, D hidden."""

    def __init__(self, *, width: int, depth: int, heads: int, context: int) -> None:
        text = "\n".join(topics[name] for name in sorted(topics))
        self.alphabet = sorted(set(text))
        index = {letter: i for i, letter in enumerate(self.alphabet)}
        encoded = torch.tensor([index[letter] for letter in text], dtype=torch.long)
        held_out = int(len(encoded) * HELD_OUT_SHARE)
        self.train, self.held_out = encoded[:-held_out], encoded[-held_out:]
        self.width, self.depth, self.heads, self.context = width, depth, heads, context

    def model(self) -> nn.Module:
        """Return a new transformer with random weights."""
        return Transformer(len(self.alphabet), self.width, self.depth, self.heads, self.context)

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Tensor]:
        """Yield random windows of the training text, [B, T + 1]. Each rank samples from a part of its own."""
        generator = torch.Generator().manual_seed(seed * world_size + rank)
        stretch = len(self.train) // world_size
        text = self.train[rank * stretch : (rank + 1) * stretch]
        while True:
            starts = torch.randint(len(text) - self.context - 1, (batch_size,), generator=generator)
            yield text[starts[:, None] + torch.arange(self.context + 1)]

    def losses(self, model: nn.Module, batch: Tensor) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the next character, in nats."""
        logits = model(batch[:, :-1])
        return {"ce": F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())}

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Return the cross-entropy on evenly spaced windows of the held-out text, in nats."""
        starts = torch.linspace(0, len(self.held_out) - self.context - 1, EVALUATION_WINDOWS).long()
        windows = self.held_out[starts[:, None] + torch.arange(self.context + 1)]
        return {"val_loss": self.losses(model, windows.to(next(model.parameters()).device))["ce"].item()}

    def example_inputs(self) -> tuple[Tensor]:
        """Return four windows of the held-out text, [4, T], with which the pipeline exports the model."""
        return (self.held_out[: 4 * self.context].unflatten(0, (4, self.context)),)

    def labels(self) -> list[str]:
        """Return the characters in the order of the logits."""
        return self.alphabet


class Transformer(nn.Module):
    """A pre-norm decoder with learned positions."""

    def __init__(self, letters: int, width: int, depth: int, heads: int, context: int) -> None:
        super().__init__()
        self.letters = nn.Embedding(letters, width)
        self.positions = nn.Parameter(0.02 * torch.randn(context, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, letters)

    def forward(self, x_BT: Tensor) -> Tensor:
        """Return the logits [B, T, V] of the next characters."""
        x_BTD = self.letters(x_BT) + self.positions[: x_BT.shape[1]]
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return self.head(self.norm(x_BTD))


class Block(nn.Module):
    """Causal self-attention and a two-layer perceptron, each with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Map [B, T, D] to [B, T, D]."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm_attention(x_BTD)).chunk(3, -1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)
        x_BTD = x_BTD + self.out(mixed)
        return x_BTD + self.mlp(self.norm_mlp(x_BTD))
