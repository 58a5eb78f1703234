"""Which prediction answers which gold value."""

from __future__ import annotations

import random
import time
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


def answers(gold: list[Entity], pred: list[Entity]) -> dict[Span | str | None, Span | str | None]:
    return {
        (pair.gold and (pair.gold.span or pair.gold.value)): (pair.pred and (pair.pred.span or pair.pred.value))
        for pair in pair_up(gold, pred)
    }


def test_the_exact_match_comes_before_a_larger_overlap() -> None:
    """The long prediction is left to the gold value that it only touches."""
    found = answers(spans((0, 2), (3, 6)), spans((0, 6), (3, 6)))
    assert found == {(3, 6): (3, 6), (0, 2): (0, 6)}


def test_the_larger_overlap_comes_before_order() -> None:
    """The first prediction shares one character with the first gold value, three with the second."""
    assert answers(spans((0, 3), (3, 6)), spans((2, 6), (7, 8))) == {(3, 6): (2, 6), (0, 3): (7, 8)}


def test_what_does_not_overlap_is_paired_in_order_of_the_text() -> None:
    """However the lists are ordered; what is left over stands alone."""
    assert answers(spans((4, 5), (0, 1)), spans((9, 10), (7, 8), (10, 12))) == {
        (0, 1): (7, 8),
        (4, 5): (9, 10),
        None: (10, 12),
    }


def test_values_without_offsets() -> None:
    """Equal ones first, then as listed."""
    assert answers(values("x", "y", "z"), values("z", "q")) == {"z": "z", "x": "q", "y": None}


def test_a_value_may_answer_a_span() -> None:
    """Where one side has no offsets, equal values are the same."""
    pairs = pair_up(spans((0, 2), (3, 6)), values("def", "a"))
    assert [(pair.values, pair.right) for pair in pairs] == [(("def", "def"), True), (("ab", "a"), False)]


def test_the_right_value_at_a_wrong_place_is_wrong() -> None:
    """As span-wise precision and recall have it."""
    gold = Entity(tag="t", value="a", span=(0, 1))
    pred = Entity(tag="t", value="a", span=(5, 6))
    (pair,) = pair_up([gold], [pred])
    assert not pair.right


SPANS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3)).map(lambda s: (s[0], s[0] + s[1])), max_size=6)


def overlap(one: Span, two: Span) -> int:
    return len(set(range(*one)) & set(range(*two)))


def greedy(gold: list[Span], pred: list[Span]) -> Counter[tuple[Span | None, Span | None]]:
    """The oracle: look over all that is left for the best pair, again and again."""
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
def test_pairs_are_those_of_the_oracle_however_the_lists_are_ordered(
    gold: list[Span], pred: list[Span], seed: int
) -> None:
    """Every value once; as many right ones as both sides share."""
    shuffle = random.Random(seed).shuffle
    given_gold, given_pred = spans(*gold), spans(*pred)
    shuffle(given_gold)
    shuffle(given_pred)
    pairs = pair_up(given_gold, given_pred)
    assert Counter((p.gold.span if p.gold else None, p.pred.span if p.pred else None) for p in pairs) == greedy(
        gold, pred
    )
    assert sum(pair.right for pair in pairs) == (Counter(gold) & Counter(pred)).total()


@pytest.mark.parametrize("side", ["gold", "pred"])
def test_nothing_on_one_side(side: str) -> None:
    """Every value stands alone."""
    some = spans((0, 1), (2, 3))
    pairs = pair_up(some, []) if side == "gold" else pair_up([], some)
    assert [getattr(pair, side) for pair in pairs] == some
    assert not any(pair.right for pair in pairs)


def test_a_long_document_is_paired_in_a_moment() -> None:
    """4,000 right values of one tag: searching for each among all would be 16 million looks."""
    many = [Entity(tag="t", value="ab", span=(3 * at, 3 * at + 2)) for at in range(4000)]
    begun = time.process_time()
    assert all(pair.right for pair in pair_up(many, many[::-1]))
    assert time.process_time() - begun < 1
