"""Delta debugging, compared with brute force."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.bisect.ddmin import ONE_BY_ONE, Answer, ddmin

Part = frozenset[int]


def parts_of(whole: Part) -> list[Part]:
    """Return every subset, the smallest first."""
    sizes = range(len(whole) + 1)
    return [frozenset(part) for part in chain.from_iterable(combinations(sorted(whole), size) for size in sizes)]


class Asked:
    """A test that remembers the subsets it received, and fails on those that it must not receive."""

    def __init__(self, count: int, answer: Callable[[Part], Answer]) -> None:
        self.count, self.answer = count, answer
        self.parts: list[Part] = []

    def __call__(self, part: list[int]) -> Answer:
        assert part == sorted(part), "in the order given"
        assert 0 < len(part) < self.count, "the answers for none and all are known"
        assert frozenset(part) not in self.parts, "never the same subset twice"
        self.parts.append(frozenset(part))
        return self.answer(frozenset(part))


def is_one_minimal(found: Part, fails: Callable[[Part], bool]) -> bool:
    return fails(found) and not any(fails(found - {one}) for one in found)


@st.composite
def any_answers(draw: st.DrawFn) -> tuple[int, dict[Part, Answer]]:
    """An arbitrary table of answers: neither monotone nor consistent; none passes, all fail."""
    count = draw(st.integers(1, 6))
    whole = frozenset(range(count))
    words = st.sampled_from(("pass", "fail", "unresolved"))
    table: dict[Part, Answer] = {part: draw(words) for part in parts_of(whole)}
    return count, {**table, frozenset(): "pass", whole: "fail"}


@given(any_answers())
def test_the_result_fails_and_is_1_minimal_whatever_the_answers(drawn: tuple[int, dict[Part, Answer]]) -> None:
    """`unresolved` is not a failure. The tests are within the bound of the paper plus one per difference."""
    count, table = drawn
    asked = Asked(count, table.__getitem__)
    found = frozenset(ddmin(range(count), asked))
    assert is_one_minimal(found, lambda part: table[part] == "fail")
    assert len(asked.parts) <= min(2**count - 2, count**2 + 4 * count)


@given(any_answers())
def test_halving_also_finds_a_1_minimal_result(drawn: tuple[int, dict[Part, Answer]]) -> None:
    """The algorithm for many differences, on tables small enough for brute force."""
    count, table = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pytest_smoke.bisect.ddmin.ONE_BY_ONE", 0)
        asked = Asked(count, table.__getitem__)
        found = frozenset(ddmin(range(count), asked))
    assert is_one_minimal(found, lambda part: table[part] == "fail")
    assert len(asked.parts) <= min(2**count - 2, count**2 + 3 * count)


@given(any_answers())
def test_a_difference_that_fails_alone_is_found_before_any_pair(drawn: tuple[int, dict[Part, Answer]]) -> None:
    """Of several, the first in the given order."""
    count, table = drawn
    alone = [one for one in range(count) if table[frozenset({one})] == "fail"]
    if alone:
        assert ddmin(range(count), Asked(count, table.__getitem__)) == [alone[0]]


@given(count=st.integers(1, 40), data=st.data())
def test_if_a_failure_needs_a_set_of_culprits_exactly_that_set_is_found(count: int, data: st.DataObject) -> None:
    culprits = data.draw(st.frozensets(st.integers(0, count - 1), min_size=1))
    asked = Asked(count, lambda part: "fail" if culprits <= part else "pass")
    assert frozenset(ddmin(range(count), asked)) == culprits
    assert len(asked.parts) <= count**2 + 4 * count


@given(count=st.integers(ONE_BY_ONE + 1, 200), data=st.data())
def test_one_culprit_among_many_costs_at_most_two_tests_per_halving(count: int, data: st.DataObject) -> None:
    culprit = data.draw(st.integers(0, count - 1))
    asked = Asked(count, lambda part: "fail" if culprit in part else "pass")
    assert ddmin(range(count), asked) == [culprit]
    assert len(asked.parts) <= 2 * (count - 1).bit_length()


def test_a_pair_among_seven_is_found_in_14_tests() -> None:
    for pair in combinations(range(7), 2):
        asked = Asked(7, lambda part, pair=pair: "fail" if {*pair} <= part else "pass")
        assert ddmin(range(7), asked) == [*pair]
        assert len(asked.parts) <= 14


def test_of_two_independent_causes_one_is_found() -> None:
    assert ddmin("abcdefghij", lambda part: "fail" if {"c"} <= {*part} or {"h", "i"} <= {*part} else "pass") == ["c"]


def test_no_differences_raise_a_value_error() -> None:
    with pytest.raises(ValueError, match="there are no differences to search"):
        ddmin([], lambda part: "fail")


def test_the_1_minimality_oracle_can_fail() -> None:
    """A failing pair of which one element fails alone is not 1-minimal."""
    fails = {frozenset({0, 1}), frozenset({1})}.__contains__
    assert not is_one_minimal(frozenset({0, 1}), fails)
    assert not is_one_minimal(frozenset({0}), fails)
    assert is_one_minimal(frozenset({1}), fails)
