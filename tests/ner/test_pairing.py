"""Pair predictions with gold values."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.ner.examples import Entity
from pytest_smoke.ner.pairing import pair_up

TEXT = "abcdefghijkl"
Span = tuple[int, int]


def spans(*given_spans: Span) -> list[Entity]:
    return [Entity(tag="t", value=TEXT[slice(*span)], span=span) for span in given_spans]


def values(*given_values: str) -> list[Entity]:
    return [Entity(tag="t", value=value) for value in given_values]


def paired(gold: list[Entity], pred: list[Entity]) -> dict[Span | str | None, Span | str | None]:
    return {
        (pair.gold and (pair.gold.span or pair.gold.value)): (pair.pred and (pair.pred.span or pair.pred.value))
        for pair in pair_up(gold, pred)
    }


def test_an_exact_match_comes_before_a_larger_overlap() -> None:
    found = paired(spans((0, 2), (3, 6)), spans((0, 6), (3, 6)))
    assert found == {(3, 6): (3, 6), (0, 2): (0, 6)}


def test_a_larger_overlap_comes_before_order() -> None:
    assert paired(spans((0, 3), (3, 6)), spans((2, 6), (7, 8))) == {(3, 6): (2, 6), (0, 3): (7, 8)}


def test_spans_without_overlap_are_paired_in_text_order() -> None:
    assert paired(spans((4, 5), (0, 1)), spans((9, 10), (7, 8), (10, 12))) == {
        (0, 1): (7, 8),
        (4, 5): (9, 10),
        None: (10, 12),
    }


def test_values_without_offsets_are_paired_by_value_then_in_order() -> None:
    assert paired(values("x", "y", "z"), values("z", "q")) == {"z": "z", "x": "q", "y": None}


def test_a_value_without_offsets_matches_a_span_with_that_value() -> None:
    pairs = pair_up(spans((0, 2), (3, 6)), values("def", "a"))
    assert [(pair.values, pair.correct) for pair in pairs] == [(("def", "def"), True), (("ab", "a"), False)]


def test_the_right_value_at_a_wrong_place_is_not_correct() -> None:
    gold = Entity(tag="t", value="a", span=(0, 1))
    pred = Entity(tag="t", value="a", span=(5, 6))
    (pair,) = pair_up([gold], [pred])
    assert not pair.correct


SPANS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3)).map(lambda s: (s[0], s[0] + s[1])), max_size=6)


def overlap(one: Span, two: Span) -> int:
    return len(set(range(*one)) & set(range(*two)))


def greedy(gold: list[Span], pred: list[Span]) -> Counter[tuple[Span | None, Span | None]]:
    """Pair by exhaustive search: repeatedly take the best of all remaining pairs."""
    left_gold, left_pred, found = sorted(gold), sorted(pred), Counter()
    while left_gold and left_pred:
        best = max(
            ((one, two) for one in left_gold for two in left_pred),
            key=lambda pair: (pair[0] == pair[1], overlap(*pair), -left_gold.index(pair[0]), -left_pred.index(pair[1])),
        )
        left_gold.remove(best[0])
        left_pred.remove(best[1])
        found[best] += 1
    found.update((one, None) for one in left_gold)
    found.update((None, two) for two in left_pred)
    return found


@given(SPANS, SPANS, st.integers(0, 99))
def test_pairs_agree_with_a_greedy_search_for_any_order_of_the_lists(
    gold: list[Span], pred: list[Span], seed: int
) -> None:
    shuffle = random.Random(seed).shuffle
    given_gold, given_pred = spans(*gold), spans(*pred)
    shuffle(given_gold)
    shuffle(given_pred)
    pairs = pair_up(given_gold, given_pred)
    assert Counter((p.gold.span if p.gold else None, p.pred.span if p.pred else None) for p in pairs) == greedy(
        gold, pred
    )
    assert sum(pair.correct for pair in pairs) == (Counter(gold) & Counter(pred)).total()


@pytest.mark.parametrize("side", ["gold", "pred"])
def test_without_values_on_one_side_every_value_is_alone(side: str) -> None:
    some = spans((0, 1), (2, 3))
    pairs = pair_up(some, []) if side == "gold" else pair_up([], some)
    assert [getattr(pair, side) for pair in pairs] == some
    assert not any(pair.correct for pair in pairs)


def test_4000_values_of_one_tag_are_paired_whatever_their_order() -> None:
    many = [Entity(tag="t", value="ab", span=(3 * at, 3 * at + 2)) for at in range(4000)]
    assert all(pair.correct for pair in pair_up(many, many[::-1]))
