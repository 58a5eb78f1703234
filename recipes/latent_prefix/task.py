"""The task of latent_prefix.smoke.yaml: arguments, stages and phases, loss terms, and evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random

import torch
from torch import Tensor, nn

from recipes.latent_prefix import sampling, scores, terms
from recipes.latent_prefix.compressor import Compressor, within
from recipes.latent_prefix.generate import greedy
from recipes.latent_prefix.passages import IGNORED, Batch
from recipes.latent_prefix.pretrained import Config, load_pretrained

EVALUATION_QUESTIONS = 150
"""Questions about held-out facts that are evaluated."""
EVALUATION_SEED = 7
"""Seed of these questions."""


class LatentPrefix:
    """Compress passages to latent vectors. Stage A trains an encoder, stage B also LoRA on the model that reads it.

    In the phase `text` of each stage the encoder returns one vector per token, in the phase `latent` it returns
    `latents` vectors in all. `gold_share` below 1 enables scheduled sampling in latent phases: the share of reference
    tokens that training feeds decreases from 1 to `gold_share` over `annealed_over` batches.
    """

    def __init__(
        self,
        *,
        latents: int,
        heads: int,
        lora_rank: int,
        gold_share: float,
        annealed_over: int,
        pretraining_steps: int,
    ) -> None:
        if not 0 <= gold_share <= 1:
            raise ValueError(f"gold_share is {gold_share}, but must be between 0 and 1")
        self._latents, self._heads, self._lora_rank = latents, heads, lora_rank
        self._gold_share, self._annealed_over = gold_share, annealed_over
        pretrained = load_pretrained(Config(steps=pretraining_steps))
        self._pretrained, self._passages = pretrained.model, pretrained.passages
        self._phase: str | None = None
        self._held_out = self._passages.held_out(EVALUATION_QUESTIONS, EVALUATION_SEED)
        self._frozen_scores: dict[str, float] = {}

    def model(self) -> nn.Module:
        """Return two copies of the frozen language model and a new encoder."""
        return Compressor(self._pretrained, latents=self._latents, heads=self._heads)

    def on_stage_start(self, model: nn.Module, stage: str, phase: str | None) -> None:
        """Remember the phase, and add LoRA adapters when stage B starts."""
        assert isinstance(model, Compressor)
        if stage == "B" and not model.adapted:
            model.add_adapters(self._lora_rank)
        self._phase = phase

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
        """Yield new passages of training facts with one question each. Each rank has its own samples."""
        random = Random(f"{seed} {rank} of {world_size}")
        latent = 0
        while True:
            batch = self._passages.batch([self._passages.question(random) for _ in range(batch_size)])
            if self._phase == "latent" and self._gold_share < 1:
                share = sampling.gold_share(latent, self._annealed_over, self._gold_share)
                fed = [[random.random() < share for _ in row] for row in batch["answer"].tolist()]
                batch["gold"] = torch.tensor(fed)
                latent += 1
            yield batch

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Return the loss terms of the phase.

        `align` is only in text phases, where the states per token are used; `latent_align` and `latent_prefix_align`
        are only in latent phases.
        """
        assert isinstance(model, Compressor)
        mask, embedded = within(batch), model.teacher.embed(batch["context"])
        taught = model.teach(batch)
        encoding = model.encode(batch, taught.prefix)
        if self._phase == "text":
            view = model.read_states(batch, encoding.states)
            return {**terms.answer_terms(view, taught, batch["answer"]), "align": terms.align(encoding, embedded, mask)}
        tail = None
        if "gold" in batch:
            with torch.no_grad():
                tail = sampling.mixed(batch, model.read_latents(batch, encoding.latents).logits)
        view = model.read_latents(batch, encoding.latents, tail)
        return {
            **terms.answer_terms(view, taught, batch["answer"]),
            "latent_align": terms.latent_align(encoding, embedded, mask),
            "latent_prefix_align": terms.latent_prefix_align(view, taught, mask),
        }

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Return what each term is a mean over: answer tokens, first tokens, passage tokens, or questions."""
        real = batch["answer"] != IGNORED
        questions, tokens = len(real), real.sum().item()
        counts = {"tf": tokens, "first": questions, "kCE": real[:, : terms.FIRST_TOKENS].sum().item()}
        counts |= {"KD": tokens, "state": tokens}
        if self._phase == "text":
            return counts | {"align": batch["context_lengths"].sum().item()}
        return counts | {"latent_align": questions, "latent_prefix_align": questions}

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Score held-out questions under four conditions.

        `text`: the frozen model with the passage; `budget`: with as many of its tokens as there are latents; `blind`:
        without the passage; `latent`: the reader with the latents.
        """
        assert isinstance(model, Compressor)
        if not self._frozen_scores:  # the frozen model is scored once
            for name, kept in (("text", None), ("budget", self._latents), ("blind", 0)):
                self._frozen_scores |= self._frozen(name, model, kept)
        batch = self._asked(model)
        latents = model.encode(batch, model.teach(batch).prefix).latents
        prompt = torch.cat([latents, model.reader.embed(batch["tail"])], 1)
        answers = greedy(model.reader, prompt, self._latents + batch["before"])
        return {
            **self._frozen_scores,
            **self._scored("latent", batch, model.read_latents(batch, latents).logits, answers),
        }

    def _frozen(self, name: str, model: Compressor, kept: int | None) -> Mapping[str, float]:
        batch = self._asked(model, kept)
        prompt = model.teacher.embed(batch["text"])
        answers = greedy(model.teacher, prompt, batch["context_lengths"] + batch["before"])
        return self._scored(name, batch, model.teach(batch).logits, answers)

    def _asked(self, model: Compressor, kept: int | None = None) -> Batch:
        batch = self._passages.batch(self._held_out, kept)
        device = model.encoder.own_KD.device
        return {name: tensor.to(device) for name, tensor in batch.items()}  # type: ignore[return-value, attr-defined]  # the same keys

    def _scored(self, condition: str, batch: Batch, logits: Tensor, answers: Tensor) -> Mapping[str, float]:
        vocabulary = self._passages.vocabulary
        gold = [vocabulary.decode(row) for row in batch["answer"].tolist()]
        predicted = [vocabulary.decode(row) for row in answers.tolist()]
        found = {**scores.logit_scores(logits, batch["answer"]), **scores.text_scores(predicted, gold)}
        return {f"{condition}_{name}": value for name, value in found.items()}
