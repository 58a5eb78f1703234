"""Facts as passages with questions: documents to train a language model on, and micro-batches of single questions."""

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
"""Each with a city of it and one more fact, the same one for all of them where it is not held out."""
IGNORED = -100
"""Label of padding: cross-entropy's own `ignore_index`."""


class Question(NamedTuple):
    """A passage that states `asked` among other facts."""

    passage: tuple[Fact, ...]
    asked: Fact


class Batch(TypedDict):
    """B questions. C, L, A: the longest context, question with answer, and answer with END, in tokens."""

    context: Tensor
    """[B, C] tokens of the passage, padded."""
    tail: Tensor
    """[B, L] tokens of the question and its answer, padded."""
    text: Tensor
    """[B, up to C + L] the passage, then the question and its answer, without a gap, padded."""
    context_lengths: Tensor
    """[B] tokens of the passage."""
    before: Tensor
    """[B] tokens of the question: where in `tail` the answer begins."""
    answer: Tensor
    """[B, A] tokens of the answer and END, IGNORED for padding."""
    gold: NotRequired[Tensor]
    """[B, A] bool, true where training feeds the true token of the answer; absent: everywhere."""


class Passages:
    """Draws passages from the training facts, around held-out ones where these are asked."""

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
        """Six facts in any order, `asked` among them; all others are training facts."""
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
        """A passage and some of its facts as questions with their answers, in tokens."""
        passage = self.passage(random)
        tokens = self.tokens_of(passage)
        for fact in random.sample(passage, questions):
            tokens += self._question(fact) + self.answer_of(fact)
        return tokens

    def question(self, random: Random) -> Question:
        """A training fact, asked."""
        passage = self.passage(random)
        return Question(passage, random.choice(passage))

    def held_out(self, count: int, seed: int) -> list[Question]:
        """Half of them on cities, the other half on countries, or as many as there are."""
        random = Random(seed)
        cities = [fact for fact in self.facts.held_out if fact.relation == "city"]
        others = [fact for fact in self.facts.held_out if fact.relation != "city"]
        picked = random.sample(others, min(len(others), count // 2))
        picked += random.sample(cities, min(len(cities), count - len(picked)))
        return [Question(self.passage(random, fact), fact) for fact in picked]

    def tokens_of(self, passage: Sequence[Fact]) -> list[int]:
        """The passage as text."""
        return [t for fact in passage for t in self.vocabulary.encode(SENTENCES[fact.relation].format(*fact[1:]))]

    def answer_of(self, fact: Fact) -> list[int]:
        """Its value and END."""
        return [*self.vocabulary.encode(fact.value), END]

    def _question(self, fact: Fact) -> list[int]:
        return self.vocabulary.encode(QUESTIONS[fact.relation].format(fact.subject))

    def batch(self, questions: Sequence[Question], kept: int | None = None) -> Batch:
        """The questions as tensors, with the first `kept` tokens of each passage, or all of them."""
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
    """[rows, longest]."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])


def _alike(fact: Fact, asked: Fact) -> bool:
    """Whether `asked` takes the place of `fact`."""
    return fact.country == asked.country and (fact.relation == "city") == (asked.relation == "city")
