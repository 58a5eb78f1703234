"""Which of many differences makes the difference: delta debugging.

A. Zeller and R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE Transactions on Software
Engineering 28(2), 2002: the algorithm ddmin, its three answers, and its bound of n^2 + 3n tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, TypeVar

Answer = Literal["pass", "fail", "unresolved"]
T = TypeVar("T")

ONE_BY_ONE = 8
"""So many differences are tried, and then left out, one by one: one culprit is the rule, the likeliest comes first, and
a pair among seven is found in 14 tests. Among more, halves are cheaper: 14 tests find one culprit among 100."""


def ddmin(differences: Sequence[T], test: Callable[[list[T]], Answer]) -> list[T]:
    """A 1-minimal part of `differences` that fails: without any single one of it, the test fails no more.

    `test` is given a part in the order of `differences`, never twice the same, and neither none nor all of them: those
    are known to pass and to fail. Up to `ONE_BY_ONE` differences start at ddmin's finest granularity, so that one that
    fails alone is found before any pair. Raises ValueError without a difference.
    """
    if not differences:
        raise ValueError("nothing differs, so nothing can be found")
    known = {(): False, tuple(range(len(differences))): True}

    def fails(part: Sequence[int]) -> bool:
        key = tuple(part)
        if key not in known:
            known[key] = test([differences[index] for index in key]) == "fail"
        return known[key]

    everything = list(range(len(differences)))
    reduce = _one_by_one if len(differences) <= ONE_BY_ONE else _by_halves
    return [differences[index] for index in reduce(everything, fails)]


def _one_by_one(everything: list[int], fails: Callable[[Sequence[int]], bool]) -> list[int]:
    """The finest granularity: each alone, then all but each, the least likely first, until none can go."""
    for index in everything:
        if fails([index]):
            return [index]
    current, before = everything, 0
    while len(current) != before:
        before = len(current)
        for index in reversed(current):
            rest = [other for other in current if other != index]
            current = rest if fails(rest) else current
    return current


def _by_halves(current: list[int], fails: Callable[[Sequence[int]], bool]) -> list[int]:
    """ddmin as it was published, from two parts on."""
    parts = 2
    while len(current) > 1:
        chunks = _split(current, parts)
        complements = [[index for index in current if index not in chunk] for chunk in chunks]
        if failing := next(filter(fails, chunks), None):
            current, parts = failing, 2
        elif failing := next(filter(fails, complements), None):
            current, parts = failing, max(parts - 1, 2)
        elif parts < len(current):
            parts = min(2 * parts, len(current))
        else:
            break
    return current


def _split(indices: list[int], parts: int) -> list[list[int]]:
    """`parts` runs of as equal a length as there can be, none empty while there are no more parts than indices."""
    edges = [len(indices) * at // parts for at in range(parts + 1)]
    return [indices[first:last] for first, last in pairwise(edges)]
