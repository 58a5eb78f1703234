"""A small causal transformer. Shapes: B texts, T tokens, V in the vocabulary, D wide, H heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROTARY_BASE = 1000.0
"""Longest wavelength of the rotary positions, over 2 pi (Su et al. 2021); texts here have about 100 tokens."""
LONGEST = 512
"""Positions there are."""
CONVOLVED = 4
"""Tokens that a block mixes before it attends: a name and the word before it are then one key to look up."""


class LanguageModel(nn.Module):
    """Pre-norm decoder with rotary positions and short causal convolutions; one matrix embeds and predicts."""

    def __init__(self, tokens: int, *, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self._scale = math.sqrt(width)

    def embed(self, x_BT: Tensor) -> Tensor:
        """Tokens as vectors [B, T, D]; each entry has a variance of about 1."""
        x_BTD: Tensor = self.embedding(x_BT)
        return x_BTD * self._scale

    def states(self, x_BTD: Tensor) -> Tensor:
        """What the last block makes of embedded tokens, or of whatever stands in their place, [B, T, D]."""
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return x_BTD

    def logits(self, states_BTD: Tensor) -> Tensor:
        """Of the tokens that follow, [B, T, V]."""
        return F.linear(self.norm(states_BTD), self.embedding.weight)

    def forward(self, x_BT: Tensor) -> Tensor:
        """Logits [B, T, V] of the tokens that follow."""
        return self.logits(self.states(self.embed(x_BT)))


class Block(nn.Module):
    """Convolution, self-attention, perceptron, each with a residual; causal unless a mask says who sees whom."""

    cos: Tensor
    sin: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.convolution = nn.Parameter(0.3 * torch.randn(CONVOLVED, width))
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        cos, sin = _rotations(width // heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, x_BTD: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, T, D] to the same; `mask` [B, 1, 1, T] is true for tokens that all may see, before and after them."""
        x_BTD = self._convolved(x_BTD)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm_attention(x_BTD)).chunk(3, -1)
        )
        q, k = self._rotated(q), self._rotated(k)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        x_BTD = x_BTD + self.out(mixed.transpose(1, 2).flatten(-2))
        added: Tensor = self.down(F.gelu(self.up(self.norm_mlp(x_BTD))))
        return x_BTD + added

    def _convolved(self, x_BTD: Tensor) -> Tensor:
        length = x_BTD.shape[1]
        before = F.pad(x_BTD, (0, 0, CONVOLVED - 1, 0))
        for back in range(CONVOLVED):
            first = CONVOLVED - 1 - back
            x_BTD = x_BTD + self.convolution[back] * before[:, first : first + length]
        return x_BTD

    def _rotated(self, x_BHTd: Tensor) -> Tensor:
        cos, sin = self.cos[: x_BHTd.shape[-2]], self.sin[: x_BHTd.shape[-2]]
        left, right = x_BHTd.chunk(2, -1)
        return torch.cat([left * cos - right * sin, left * sin + right * cos], -1)


def _rotations(size: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [LONGEST, size / 2] of position times frequency."""
    angles = torch.arange(LONGEST)[:, None] * ROTARY_BASE ** (-torch.arange(0, size, 2) / size)
    return angles.cos(), angles.sin()
