"""The encoder that compresses a passage into latent vectors, and the language model that reads them.

Shapes: B questions, C tokens of the passage, L tokens of question and answer, A tokens of the answer, K latents, D
hidden, V tokens in the vocabulary.
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
"""Linear layers of each block that get a LoRA adapter."""


class View(NamedTuple):
    """Outputs of a language model for a batch."""

    logits: Tensor
    """[B, A, V] at the positions that predict the tokens of the answer."""
    states: Tensor
    """[B, A, D] of the last block, at the same positions."""
    prefix: Tensor
    """[B, K or C, D] of the last block, over the latents or the passage before the question."""


class Encoding(NamedTuple):
    """Outputs of the encoder, which the reader takes instead of embedded tokens."""

    states: Tensor
    """[B, C, D], one vector per token of the passage."""
    latents: Tensor
    """[B, K, D], the compressed passage."""


class Compressor(nn.Module):
    """Encoder, teacher (the frozen pretrained model) and reader (a copy of it that may get adapters)."""

    def __init__(self, pretrained: LanguageModel, *, latents: int, heads: int) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(pretrained).requires_grad_(False)
        self.reader = copy.deepcopy(pretrained).requires_grad_(False)
        self.adapted = False
        self.encoder = Encoder(pretrained.embedding.embedding_dim, latents, heads)

    def add_adapters(self, rank: int) -> None:
        """Add LoRA (Hu et al. 2021) to the reader in place. Its product is 0 at first, so the outputs do not change."""
        from peft import LoraConfig, inject_adapter_in_model  # the import takes seconds, and stage A does not need it

        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(ADAPTED))
        inject_adapter_in_model(config, self.reader)
        self.adapted = True

    @torch.no_grad()
    def teach(self, batch: Batch) -> View:
        """Run the teacher with the whole passage as text."""
        states_BTD = self.teacher.states(self.teacher.embed(batch["text"]))
        at = batch["context_lengths"][:, None] + answer_places(batch)
        answer = _gathered(states_BTD, at)
        return View(self.teacher.logits(answer), answer, states_BTD[:, : batch["context"].shape[1]])

    def encode(self, batch: Batch, taught: Tensor) -> Encoding:
        """Encode the passage, given the teacher's states over it [B, C, D]."""
        embedded = self.teacher.embed(batch["context"])
        encoding: Encoding = self.encoder(embedded, taught, within(batch))
        return encoding

    def read_latents(self, batch: Batch, latents: Tensor, tail: Tensor | None = None) -> View:
        """Run the reader on the latents, then question and answer (`tail` [B, L]; default: those of the batch)."""
        embedded = self.reader.embed(batch["tail"] if tail is None else tail)
        states = self.reader.states(torch.cat([latents, embedded], 1))
        answer = _gathered(states, latents.shape[1] + answer_places(batch))
        return View(self.reader.logits(answer), answer, states[:, : latents.shape[1]])

    def read_states(self, batch: Batch, states: Tensor) -> View:
        """Run the reader on one vector per token of the passage, then the question and its answer."""
        embedded, mask = self.reader.embed(batch["text"]), within(batch)
        length = states.shape[1]
        start = torch.where(mask[..., None], states, embedded[:, :length])
        states = self.reader.states(torch.cat([start, embedded[:, length:]], 1))
        answer = _gathered(states, batch["context_lengths"][:, None] + answer_places(batch))
        return View(self.reader.logits(answer), answer, states[:, :length])


class Encoder(nn.Module):
    """A bidirectional encoder of the teacher's states. Each latent starts from the mean of its part of the passage."""

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
        nn.init.zeros_(self.token.weight)  # so that the states are the embedded tokens at first
        nn.init.zeros_(self.token.bias)

    def forward(self, embedded_BCD: Tensor, taught_BCD: Tensor, mask_BC: Tensor) -> Encoding:
        """Encode embedded tokens and the teacher's states over them; `mask_BC` is false for padding."""
        x_BCD = self.inward(self.norm_in(torch.cat([embedded_BCD, taught_BCD], -1)))
        x_BCD = self.block(x_BCD, mask_BC[:, None, None])
        states = embedded_BCD + self.token(self.norm_token(x_BCD))
        z_BKD = self._part_weights(mask_BC) @ x_BCD + self.own_KD
        keys_and_values = self.key_value(self.norm_keys(x_BCD)).chunk(2, -1)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(self.norm_latent(z_BKD)), *keys_and_values)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_BC[:, None, None])
        z_BKD = z_BKD + self.mixed(mixed.transpose(1, 2).flatten(-2))
        return Encoding(states, self.outward(self.norm_out(z_BKD + self.mlp(z_BKD))))

    def _part_weights(self, mask_BC: Tensor) -> Tensor:
        """Return weights [B, K, C] of the means over K equally long parts of the passage."""
        lengths_B1 = mask_BC.sum(1, keepdim=True)
        places_C = torch.arange(mask_BC.shape[1], device=mask_BC.device)
        part_BC = (places_C * self.latents // lengths_B1).masked_fill(~mask_BC, -1)
        inside = (part_BC[:, None] == torch.arange(self.latents, device=mask_BC.device)[:, None]).float()
        return inside / inside.sum(-1, keepdim=True).clamp(min=1)


def within(batch: Batch) -> Tensor:
    """Return a mask [B, C] that is true for tokens of the passage and false for padding."""
    places = torch.arange(batch["context"].shape[1], device=batch["context"].device)
    return places < batch["context_lengths"][:, None]


def answer_places(batch: Batch) -> Tensor:
    """Return the position in `tail` that predicts each token of the answer [B, A]: the one before the token."""
    places = torch.arange(batch["answer"].shape[1], device=batch["answer"].device)
    return (batch["before"][:, None] - 1 + places).clamp(max=batch["tail"].shape[1] - 1)


def _gathered(x_BTD: Tensor, at_BA: Tensor) -> Tensor:
    """Gather the positions `at_BA` of each row, [B, A, D]. Positions of padding may be beyond the end."""
    at = at_BA.clamp(max=x_BTD.shape[1] - 1)
    return x_BTD.gather(1, at[..., None].expand(-1, -1, x_BTD.shape[-1]))
