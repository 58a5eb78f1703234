"""Passages of facts with questions: documents for pretraining, and micro-batches of single questions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from random import Random
from typing import NamedTuple, NotRequired, TypedDict

import torch
from torch import Tensor

from recipes.latent_prefix.facts import OF_COUNTRIES, QUESTIONS, SENTENCES, Fact, Facts
from recipes.latent_prefix.vocabulary import END, PADDING, Vocabulary

COUNTRIES_IN_PASSAGE = 3
"""Countries in a passage, each with one of its cities and one more fact. The relation of that fact is the same for all
countries, unless it is held out."""
IGNORED = -100
"""Label of padding, the default `ignore_index` of cross-entropy."""


class Question(NamedTuple):
    """A passage and the one of its facts that is asked for."""

    passage: tuple[Fact, ...]
    asked: Fact


class Batch(TypedDict):
    """A micro-batch of B questions.

    C, L and A are the largest numbers of tokens in a passage, in a question with its answer, and in an answer with END.
    """

    context: Tensor
    """[B, C] tokens of the passage, padded."""
    tail: Tensor
    """[B, L] tokens of the question and its answer, padded."""
    text: Tensor
    """[B, up to C + L] tokens of passage, question and answer without padding in between, padded at the end."""
    context_lengths: Tensor
    """[B] number of tokens in the passage."""
    before: Tensor
    """[B] number of tokens in the question, the position in `tail` where the answer starts."""
    answer: Tensor
    """[B, A] tokens of the answer and END, IGNORED for padding."""
    gold: NotRequired[Tensor]
    """[B, A] bool, true where training feeds the reference token of the answer. If absent, it always does."""


class Passages:
    """Sample passages of training facts, and of held-out facts for evaluation."""

    def __init__(self, facts: Facts, vocabulary: Vocabulary) -> None:
        self.facts, self.vocabulary = facts, vocabulary
        self._cities: dict[str, list[Fact]] = {}
        self._known: dict[tuple[str, str], Fact] = {}
        for fact in facts.train:
            if fact.relation == "city":
                self._cities.setdefault(fact.country, []).append(fact)
            else:
                self._known[fact.relation, fact.subject] = fact

    @cached_property
    def _countries(self) -> list[str]:
        return sorted(self._cities)

    def passage(self, random: Random, asked: Fact | None = None) -> tuple[Fact, ...]:
        """Sample six facts in random order, `asked` among them. All others are training facts."""
        relation = asked.relation if asked and asked.relation != "city" else random.choice(OF_COUNTRIES)
        countries = random.sample(self._countries, COUNTRIES_IN_PASSAGE)
        if asked:
            countries = [asked.country, *(country for country in countries if country != asked.country)]
        facts: list[Fact] = []
        for country in countries[:COUNTRIES_IN_PASSAGE]:
            facts += [random.choice(cities)] if (cities := self._cities.get(country)) else []
            known = [self._known.get((name, country)) for name in (relation, *OF_COUNTRIES)]
            facts.append(next(fact for fact in known if fact))
        if asked:
            facts = [fact for fact in facts if not _alike(fact, asked)] + [asked]
        random.shuffle(facts)
        return tuple(facts)

    def document(self, random: Random, questions: int) -> list[int]:
        """Sample the tokens of a passage and of some questions about it with their answers."""
        passage = self.passage(random)
        tokens = self.tokens_of(passage)
        for fact in random.sample(passage, questions):
            tokens += self._question(fact) + self.answer_of(fact)
        return tokens

    def question(self, random: Random) -> Question:
        """Sample a passage and a question about a training fact."""
        passage = self.passage(random)
        return Question(passage, random.choice(passage))

    def held_out(self, count: int, seed: int) -> list[Question]:
        """Sample questions about held-out facts, half about cities and half about countries if there are enough."""
        random = Random(seed)
        cities = [fact for fact in self.facts.held_out if fact.relation == "city"]
        others = [fact for fact in self.facts.held_out if fact.relation != "city"]
        picked = random.sample(others, min(len(others), count // 2))
        picked += random.sample(cities, min(len(cities), count - len(picked)))
        return [Question(self.passage(random, fact), fact) for fact in picked]

    def tokens_of(self, passage: Sequence[Fact]) -> list[int]:
        """Return the tokens of a passage."""
        return [t for fact in passage for t in self.vocabulary.encode(SENTENCES[fact.relation].format(*fact[1:]))]

    def answer_of(self, fact: Fact) -> list[int]:
        """Return the tokens of a fact's value, and END."""
        return [*self.vocabulary.encode(fact.value), END]

    def _question(self, fact: Fact) -> list[int]:
        return self.vocabulary.encode(QUESTIONS[fact.relation].format(fact.subject))

    def batch(self, questions: Sequence[Question], kept: int | None = None) -> Batch:
        """Return the questions as tensors, with the first `kept` tokens of each passage (default: all)."""
        contexts = [self.tokens_of(question.passage)[:kept] for question in questions]
        asked = [self._question(question.asked) for question in questions]
        answers = [self.answer_of(question.asked) for question in questions]
        tails = [question + answer for question, answer in zip(asked, answers, strict=True)]
        return {
            "context": padded(contexts),
            "tail": padded(tails),
            "text": padded([context + tail for context, tail in zip(contexts, tails, strict=True)]),
            "context_lengths": torch.tensor([len(context) for context in contexts]),
            "before": torch.tensor([len(question) for question in asked]),
            "answer": padded(answers, IGNORED),
        }


def padded(rows: Sequence[Sequence[int]], padding: int = PADDING) -> Tensor:
    """Return the rows as a tensor [rows, longest]."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])


def _alike(fact: Fact, asked: Fact) -> bool:
    """Tell whether `asked` replaces `fact` in a passage."""
    return fact.country == asked.country and (fact.relation == "city") == (asked.relation == "city")
