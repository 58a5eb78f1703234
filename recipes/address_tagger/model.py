"""Hashed word features, a small transformer encoder, and a linear layer of emissions.

Shapes: B addresses, T tokens, S feature slots, K labels, D wide.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.address_tagger.crf import Crf
from recipes.address_tagger.labels import LABELS
from recipes.address_tagger.tokens import BUCKETS, MAX_TOKENS, SLOTS

FEATURE_SIZE = 16


class Tagger(nn.Module):
    """A tagger whose `forward` returns emissions only, so that it can be exported. `crf` scores and decodes them."""

    def __init__(self, hidden_size: int, layers: int, heads: int) -> None:
        super().__init__()
        self.features = nn.Embedding(BUCKETS, FEATURE_SIZE, padding_idx=0)
        self.word = nn.Linear(len(SLOTS) * FEATURE_SIZE, hidden_size)
        self.positions_TD = nn.Parameter(0.1 * torch.randn(MAX_TOKENS, hidden_size))
        self.blocks = nn.ModuleList(Block(hidden_size, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_size)
        self.emissions = nn.Linear(hidden_size, len(LABELS))
        self.crf = Crf(LABELS)

    def forward(self, features_BTS: Tensor, mask_BT: Tensor) -> Tensor:
        """Return emissions [B, T, K]. Features are bucket numbers, and 0 for padding, where the mask is false."""
        x_BTD = self.word(self.features(features_BTS).flatten(-2)) + self.positions_TD[: features_BTS.shape[1]]
        for block in self.blocks:
            x_BTD = block(x_BTD, mask_BT[:, None, None, :])
        emissions_BTK: Tensor = self.emissions(self.norm(x_BTD))
        return emissions_BTK


class Block(nn.Module):
    """Pre-norm self-attention over all tokens and a two-layer perceptron, each with a residual connection."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)
        self.qkv, self.out = nn.Linear(hidden_size, 3 * hidden_size), nn.Linear(hidden_size, hidden_size)
        self.mlp = nn.Sequential(
            nn.Linear(hidden_size, 4 * hidden_size), nn.GELU(), nn.Linear(4 * hidden_size, hidden_size)
        )

    def forward(self, x_BTD: Tensor, mask_B11T: Tensor) -> Tensor:
        """Map [B, T, D] to [B, T, D]. No token attends to padding."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm_attention(x_BTD)).chunk(3, -1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_B11T).transpose(1, 2).flatten(-2)
        x_BTD = x_BTD + self.out(mixed)
        out_BTD: Tensor = x_BTD + self.mlp(self.norm_mlp(x_BTD))
        return out_BTD
