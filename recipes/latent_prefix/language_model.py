"""A small causal transformer. Shapes: B texts, T tokens, V tokens in the vocabulary, D hidden, H heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROTARY_BASE = 1000.0
"""Longest wavelength of the rotary positions, divided by 2 pi (Su et al. 2021). Texts have about 100 tokens."""
LONGEST = 512
"""Number of positions."""
CONVOLVED = 4
"""Tokens that a block convolves before attention, so that a name and the word before it form one key."""


class LanguageModel(nn.Module):
    """A pre-norm decoder with rotary positions, short causal convolutions and tied embeddings."""

    def __init__(self, tokens: int, *, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self._scale = math.sqrt(width)

    def embed(self, x_BT: Tensor) -> Tensor:
        """Embed tokens as vectors [B, T, D] with a variance of about 1 per entry."""
        x_BTD: Tensor = self.embedding(x_BT)
        return x_BTD * self._scale

    def states(self, x_BTD: Tensor) -> Tensor:
        """Return the outputs of the last block [B, T, D] for embedded tokens or other vectors."""
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return x_BTD

    def logits(self, states_BTD: Tensor) -> Tensor:
        """Return the logits [B, T, V] of the next tokens for outputs of the last block."""
        return F.linear(self.norm(states_BTD), self.embedding.weight)

    def forward(self, x_BT: Tensor) -> Tensor:
        """Return the logits [B, T, V] of the next tokens."""
        return self.logits(self.states(self.embed(x_BT)))


class Block(nn.Module):
    """Convolution, self-attention and perceptron, each with a residual connection; causal unless a mask is given."""

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
        """Map [B, T, D] to [B, T, D]. With a `mask` [B, 1, 1, T], tokens attend to all tokens where it is true."""
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
    """Return cosines and sines [LONGEST, size / 2] of position times frequency."""
    angles = torch.arange(LONGEST)[:, None] * ROTARY_BASE ** (-torch.arange(0, size, 2) / size)
    return angles.cos(), angles.sin()
