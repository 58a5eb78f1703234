"""The encoder that turns a passage into latent vectors, and the language model that reads them.

Shapes: B questions, C context tokens, L tokens of question and answer, A of the answer, K latents, D wide, V tokens.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.latent_prefix.language_model import Block, LanguageModel
from recipes.latent_prefix.passages import Batch

ADAPTED = ("qkv", "out", "up", "down")
"""Linear layers of each block that get an adapter."""


class View(NamedTuple):
    """What a language model makes of a batch."""

    logits: Tensor
    """[B, A, V] where it predicts the answer's tokens."""
    states: Tensor
    """[B, A, D] of its last block, at the same places."""
    prefix: Tensor
    """[B, K or C, D] of its last block, over what stands before the question."""


class Encoding(NamedTuple):
    """What the encoder makes of the passage, in the place of embedded tokens."""

    states: Tensor
    """[B, C, D], one for each token."""
    latents: Tensor
    """[B, K, D]."""


class Compressor(nn.Module):
    """`teacher` is the pretrained model and never changes; `reader` begins as a copy of it and may get adapters."""

    def __init__(self, pretrained: LanguageModel, *, latents: int, heads: int) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(pretrained).requires_grad_(False)
        self.reader = copy.deepcopy(pretrained).requires_grad_(False)
        self.adapted = False
        self.encoder = Encoder(pretrained.embedding.embedding_dim, latents, heads)

    def add_adapters(self, rank: int) -> None:
        """LoRA (Hu et al. 2021) on the reader, in place; its product is 0 at first, so nothing changes yet."""
        from peft import LoraConfig, inject_adapter_in_model  # takes seconds, and stage A does without

        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(ADAPTED))
        inject_adapter_in_model(config, self.reader)
        self.adapted = True

    @torch.no_grad()
    def teach(self, batch: Batch) -> View:
        """The frozen model with the whole passage as text."""
        states_BTD = self.teacher.states(self.teacher.embed(batch["text"]))
        at = batch["context_lengths"][:, None] + answer_places(batch)
        answer = _picked(states_BTD, at)
        return View(self.teacher.logits(answer), answer, states_BTD[:, : batch["context"].shape[1]])

    def encode(self, batch: Batch, taught: Tensor) -> Encoding:
        """From the frozen model's states [B, C, D] over the passage."""
        embedded = self.teacher.embed(batch["context"])
        encoding: Encoding = self.encoder(embedded, taught, within(batch))
        return encoding

    def read_latents(self, batch: Batch, latents: Tensor, tail: Tensor | None = None) -> View:
        """Latents, then the question and its answer (`tail` [B, L], or the true one)."""
        embedded = self.reader.embed(batch["tail"] if tail is None else tail)
        states = self.reader.states(torch.cat([latents, embedded], 1))
        answer = _picked(states, latents.shape[1] + answer_places(batch))
        return View(self.reader.logits(answer), answer, states[:, : latents.shape[1]])

    def read_states(self, batch: Batch, states: Tensor) -> View:
        """One vector for each token of the passage, then the question and its answer."""
        embedded, mask = self.reader.embed(batch["text"]), within(batch)
        length = states.shape[1]
        start = torch.where(mask[..., None], states, embedded[:, :length])
        states = self.reader.states(torch.cat([start, embedded[:, length:]], 1))
        answer = _picked(states, batch["context_lengths"][:, None] + answer_places(batch))
        return View(self.reader.logits(answer), answer, states[:, :length])


class Encoder(nn.Module):
    """Reads the frozen model's states both ways; each latent begins as the mean of its stretch of the passage."""

    def __init__(self, width: int, latents: int, heads: int) -> None:
        super().__init__()
        self.latents = latents
        self.heads = heads
        self.norm_in = nn.LayerNorm(2 * width)
        self.inward = nn.Linear(2 * width, width)
        self.block = Block(width, heads)
        self.norm_token, self.token = nn.LayerNorm(width), nn.Linear(width, width)
        self.norm_latent, self.norm_keys = nn.LayerNorm(width), nn.LayerNorm(width)
        self.own_KD = nn.Parameter(torch.randn(latents, width))
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.mixed = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.norm_out, self.outward = nn.LayerNorm(width), nn.Linear(width, width)
        nn.init.zeros_(self.token.weight)  # the states begin as the embedded tokens
        nn.init.zeros_(self.token.bias)

    def forward(self, embedded_BCD: Tensor, taught_BCD: Tensor, mask_BC: Tensor) -> Encoding:
        """Of embedded tokens and the frozen model's states over them; `mask_BC` is false for padding."""
        x_BCD = self.inward(self.norm_in(torch.cat([embedded_BCD, taught_BCD], -1)))
        x_BCD = self.block(x_BCD, mask_BC[:, None, None])
        states = embedded_BCD + self.token(self.norm_token(x_BCD))
        z_BKD = self._stretches(mask_BC) @ x_BCD + self.own_KD
        keys_and_values = self.key_value(self.norm_keys(x_BCD)).chunk(2, -1)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(self.norm_latent(z_BKD)), *keys_and_values)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_BC[:, None, None])
        z_BKD = z_BKD + self.mixed(mixed.transpose(1, 2).flatten(-2))
        return Encoding(states, self.outward(self.norm_out(z_BKD + self.mlp(z_BKD))))

    def _stretches(self, mask_BC: Tensor) -> Tensor:
        """[B, K, C] weights of a mean over each of K equally long stretches of the passage."""
        lengths_B1 = mask_BC.sum(1, keepdim=True)
        places_C = torch.arange(mask_BC.shape[1], device=mask_BC.device)
        stretch_BC = (places_C * self.latents // lengths_B1).masked_fill(~mask_BC, -1)
        inside = (stretch_BC[:, None] == torch.arange(self.latents, device=mask_BC.device)[:, None]).float()
        return inside / inside.sum(-1, keepdim=True).clamp(min=1)


def within(batch: Batch) -> Tensor:
    """[B, C] bool, true for tokens of the passage."""
    places = torch.arange(batch["context"].shape[1], device=batch["context"].device)
    return places < batch["context_lengths"][:, None]


def answer_places(batch: Batch) -> Tensor:
    """[B, A] where in `tail` each token of the answer is predicted: one before it stands."""
    places = torch.arange(batch["answer"].shape[1], device=batch["answer"].device)
    return (batch["before"][:, None] - 1 + places).clamp(max=batch["tail"].shape[1] - 1)


def _picked(x_BTD: Tensor, at_BA: Tensor) -> Tensor:
    """[B, A, D] of places; those of padding may lie past the end."""
    at = at_BA.clamp(max=x_BTD.shape[1] - 1)
    return x_BTD.gather(1, at[..., None].expand(-1, -1, x_BTD.shape[-1]))
