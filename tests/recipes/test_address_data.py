"""The generated addresses: determinism, spans, splits, tokens and the mix."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipes.address_tagger.compose import core, without_accents
from recipes.address_tagger.corpus import ROWS, Corpus, Row, Table, build_corpus
from recipes.address_tagger.countries import COUNTRIES
from recipes.address_tagger.labels import LABELS, TAGS, Span, decode, encode, may_follow, may_start
from recipes.address_tagger.sampler import Sampler
from recipes.address_tagger.tokens import BUCKETS, MAX_TOKENS, SLOTS, features, tokenize

ROOT = Path(__file__).parents[2]
DIGEST = """
import hashlib
from recipes.address_tagger.corpus import build_corpus
corpus = build_corpus({"ru": 40, "us": 40}, held_out_rows=10)
print(hashlib.sha256(repr(corpus).encode()).hexdigest())
"""


def every_row(corpus: Corpus) -> list[Row]:
    """Return the training and held-out rows of all sources."""
    return [row for part in (corpus.train, corpus.held_out) for rows in part.values() for row in rows]


def test_another_process_generates_the_same_corpus() -> None:
    """With another hash seed, on which the order of sets of text depends."""
    run = subprocess.run(
        [sys.executable, "-c", DIGEST],
        env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    ours = build_corpus({"ru": 40, "us": 40}, held_out_rows=10)
    assert run.stdout.strip() == hashlib.sha256(repr(ours).encode()).hexdigest()


def test_rows_and_weights_match_the_recipes_mix(corpus: Corpus, recipe: dict[str, Any]) -> None:
    sources = recipe["mix"]["sources"]
    assert {name: source["rows"] for name, source in sources.items()} == ROWS
    assert {name: len(rows) for name, rows in corpus.train.items()} == ROWS
    assert {name: source["weight"] for name, source in sources.items()} == recipe["args"]["source_weights"]
    assert sum(source["share"] for source in sources.values()) == pytest.approx(1.0)


def test_no_address_occurs_twice_or_in_both_splits(corpus: Corpus) -> None:
    for source in ROWS:
        train = [row.address.text.casefold() for row in corpus.train[source]]
        held_out = [row.address.text.casefold() for row in corpus.held_out[source]]
        assert len({*train, *held_out}) == len(train) + len(held_out)


def test_about_half_of_the_held_out_names_are_not_in_training(corpus: Corpus) -> None:
    for tag in ("street", "city"):
        names = {part: Counter[str]() for part in ("train", "held_out")}
        for part, counter in names.items():
            for row in itertools.chain(*getattr(corpus, part).values()):
                text = row.address.text
                counter.update(
                    without_accents(text[s.start : s.end]).casefold() for s in row.address.spans if s.tag == tag
                )
        unseen = sum(count for name, count in names["held_out"].items() if name not in names["train"])
        assert 0.4 < unseen / names["held_out"].total() < 0.7, tag


def test_spans_are_in_order_and_start_and_end_with_a_letter_or_digit(corpus: Corpus) -> None:
    for row in every_row(corpus):
        text, end = row.address.text, 0
        for span in row.address.spans:
            assert span.tag in TAGS
            assert end <= span.start < span.end <= len(text), text
            assert text[span.start].isalnum()
            assert text[span.end - 1].isalnum()
            end = span.end


def test_labels_of_every_address_decode_to_its_spans_except_punctuation(corpus: Corpus) -> None:
    glued = 0
    for row in every_row(corpus):
        text = row.address.text
        assert 0 < len(row.tokens) <= MAX_TOKENS
        assert "".join(text[start:end] for start, end in row.tokens) == "".join(text.split())
        names = [LABELS[label] for label in row.labels]
        assert may_start(names[0])
        assert all(itertools.starmap(may_follow, itertools.pairwise(names)))
        spans = list(decode(row.labels, row.tokens))
        assert [core(span, text) for span in spans] == list(row.address.spans)
        glued += spans != list(row.address.spans)
    assert glued > len(every_row(corpus)) / 4  # else trimming would not matter


def test_every_source_has_every_tag_and_russian_is_cyrillic(corpus: Corpus) -> None:
    for part in (corpus.train, corpus.held_out):
        for source, rows in part.items():
            assert {span.tag for row in rows for span in row.address.spans} == set(TAGS), source
    russian = "".join(row.address.text for row in corpus.train["ru"])
    assert sum("\u0430" <= letter <= "\u044f" for letter in russian.lower()) > 0.5 * len(russian)


@given(st.text(max_size=40))
def test_tokens_of_any_text_do_not_overlap_and_omit_only_white_space(text: str) -> None:
    tokens = tokenize(text)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(tokens))
    inside = {at for start, end in tokens for at in range(start, end)}
    assert all(letter.isspace() for at, letter in enumerate(text) if at not in inside)
    for buckets in features(text, tokens):
        assert len(buckets) == len(SLOTS)
        assert all(0 < bucket < BUCKETS for bucket in buckets)


@given(st.data())
def test_decode_inverts_encode_for_spans_of_whole_tokens(data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, 60), min_size=2, max_size=20)))
    tokens = list(zip(cuts[::2], cuts[1::2], strict=False))
    edges = sorted(data.draw(st.sets(st.integers(0, len(tokens)), max_size=len(tokens) + 1)))
    spans = [
        Span(data.draw(st.sampled_from(TAGS)), tokens[first][0], tokens[last - 1][1])
        for first, last in itertools.pairwise(edges)
        if data.draw(st.booleans())
    ]
    assert list(decode(encode(spans, tokens), tokens)) == spans


def test_a_batch_has_its_rows_with_padding(corpus: Corpus) -> None:
    rows = [*corpus.train["ru"][:5], *corpus.train["us"][:3]]
    batch = Table(rows).batch(torch.tensor([7, 0, 3]))
    assert batch["sources"] == ("us", "ru", "ru")
    for at, row in enumerate([rows[7], rows[0], rows[3]]):
        mask = batch["mask"][at]
        assert mask.tolist() == [step < len(row.tokens) for step in range(len(mask))]
        assert batch["labels"][at, mask].tolist() == row.labels
        assert [tuple(found) for found in batch["features"][at, mask].tolist()] == features(
            row.address.text, row.tokens
        )
        assert not batch["features"][at, ~mask].any()
        assert (batch["labels"][at, ~mask] == -100).all()


@given(st.integers(1, 5), st.integers(0, 1000))
def test_ranks_share_no_row_and_each_has_the_mix(world_size: int, seed: int) -> None:
    rows, weights = {"a": 101, "b": 53, "c": 17}, {"a": 1.0, "b": 0.5, "c": 2.0}
    drawn = []
    for rank in range(world_size):
        picked = next(Sampler(rows, weights).batches(10_000, seed=seed, rank=rank, world_size=world_size))
        drawn.append(set(picked.tolist()))
        assert picked.min() >= 0
        assert picked.max() < 171
        share = (picked < 101).double().mean().item()
        assert share == pytest.approx(101 / (101 + 26.5 + 34), abs=5 * 0.5 / 10_000**0.5)
    assert sum(map(len, drawn)) == len(set().union(*drawn))
    assert len(set().union(*drawn)) == 171  # a row of the rarest source is left out in e**-31 of such draws


def test_sampling_depends_on_the_seed_only() -> None:
    def first(seed: int) -> list[int]:
        sampler = Sampler({"a": 1000, "b": 1000}, {"a": 1.0, "b": 1.0})
        return next(sampler.batches(64, seed=seed, rank=0, world_size=1)).tolist()

    assert first(3) == first(3) != first(4)


@pytest.mark.parametrize(
    ("weights", "fragment"),
    [
        ({"a": 1.0}, "source_weights has a, but the sources are a, b"),
        ({"a": 1.0, "b": -0.5}, "no weight may be negative"),
        ({"a": 0.0, "b": 0.0}, "one must be positive"),
    ],
)
def test_unusable_source_weights_are_an_error(weights: dict[str, float], fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        Sampler({"a": 3, "b": 3}, weights)


def test_every_format_has_each_part_at_most_once() -> None:
    for country in COUNTRIES.values():
        for form in country.formats:
            fields = [part.partition("}")[0] for part in form.split("{")[1:]]
            assert len(fields) == len(set(fields)), form
            assert set(fields) <= set(TAGS), form
            assert "city" in fields, form
