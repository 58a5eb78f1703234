"""The task: what the recipe's `args` mean, its phases, and how its answers are scored."""

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
EVALUATION_SEED = 7


class LatentPrefix:
    """Stage A fits an encoder, stage B adds LoRA to the model that reads it. Each begins with its phase `text`, in
    which the encoder gives one vector a token; in the phase `latent` it gives `latents` in all.

    `gold_share` below 1 turns on scheduled sampling in latent phases: the share of true tokens that training feeds
    falls from 1 to it over `annealed_over` batches.
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
            raise ValueError(f"gold_share is {gold_share}; it must be a share from 0 to 1")
        self._latents, self._heads, self._lora_rank = latents, heads, lora_rank
        self._gold_share, self._annealed_over = gold_share, annealed_over
        pretrained = load_pretrained(Config(steps=pretraining_steps))
        self._pretrained, self._passages = pretrained.model, pretrained.passages
        self._phase: str | None = None
        self._held_out = self._passages.held_out(EVALUATION_QUESTIONS, EVALUATION_SEED)
        self._frozen_scores: dict[str, float] = {}

    def model(self) -> nn.Module:
        """The frozen language model twice, and a new encoder."""
        return Compressor(self._pretrained, latents=self._latents, heads=self._heads)

    def on_stage_start(self, model: nn.Module, stage: str, phase: str | None) -> None:
        """Stage B begins with adapters."""
        assert isinstance(model, Compressor)
        if stage == "B" and not model.adapted:
            model.add_adapters(self._lora_rank)
        self._phase = phase

    def batches(self, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
        """New passages of training facts with a question each, drawn apart for each rank."""
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
        """The terms of `terms`: `align` in text phases alone, for nothing else looks at the states, `latent_align` and
        `latent_prefix_align` in latent ones."""
        assert isinstance(model, Compressor)
        mask, embedded = within(batch), model.teacher.embed(batch["context"])
        taught = model.teach(batch)
        encoding = model.encode(batch, taught.prefix)
        if self._phase == "text":
            view = model.read_states(batch, encoding.states)
            return {**terms.of_answers(view, taught, batch["answer"]), "align": terms.align(encoding, embedded, mask)}
        tail = None
        if "gold" in batch:
            with torch.no_grad():
                tail = sampling.mixed(batch, model.read_latents(batch, encoding.latents).logits)
        view = model.read_latents(batch, encoding.latents, tail)
        return {
            **terms.of_answers(view, taught, batch["answer"]),
            "latent_align": terms.latent_align(encoding, embedded, mask),
            "latent_prefix_align": terms.latent_prefix_align(view, taught, mask),
        }

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """What each term is a mean over: answer tokens, first tokens, context tokens, or questions."""
        real = batch["answer"] != IGNORED
        questions, tokens = len(real), real.sum().item()
        counts = {"tf": tokens, "first": questions, "kCE": real[:, : terms.FIRST_TOKENS].sum().item()}
        counts |= {"KD": tokens, "state": tokens}
        if self._phase == "text":
            return counts | {"align": batch["context_lengths"].sum().item()}
        return counts | {"latent_align": questions, "latent_prefix_align": questions}

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Held-out questions under four conditions: `text`, the frozen model with the passage; `budget`, with as many
        of its tokens as there are latents; `blind`, with none of them; and `latent`."""
        assert isinstance(model, Compressor)
        if not self._frozen_scores:  # they never change
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
        found = {**scores.of_logits(logits, batch["answer"]), **scores.of_text(predicted, gold)}
        return {f"{condition}_{name}": value for name, value in found.items()}
