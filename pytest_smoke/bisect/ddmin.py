"""Delta debugging: find the differences that make a test fail.

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
"""Up to this many differences are tried alone, and then left out, one by one: usually there is one culprit, the most
likely one comes first, and a pair among seven is found in 14 tests. For more of them halving is cheaper: it finds one
culprit among 100 in 14 tests."""


def ddmin(differences: Sequence[T], test: Callable[[list[T]], Answer]) -> list[T]:
    """Return a 1-minimal subset of `differences` that fails: without any one of its elements it does not fail.

    `test` receives a subset in the order of `differences`. It is not called twice with the same subset, nor with none
    or all of them, which are known to pass and to fail. Up to `ONE_BY_ONE` differences start at the finest granularity,
    so that one that fails alone is found before any pair. Raises ValueError if there are no differences.
    """
    if not differences:
        raise ValueError("there are no differences to search")
    known = {(): False, tuple(range(len(differences))): True}

    def fails(subset: Sequence[int]) -> bool:
        key = tuple(subset)
        if key not in known:
            known[key] = test([differences[index] for index in key]) == "fail"
        return known[key]

    everything = list(range(len(differences)))
    reduce = _one_by_one if len(differences) <= ONE_BY_ONE else _by_halves
    return [differences[index] for index in reduce(everything, fails)]


def _one_by_one(everything: list[int], fails: Callable[[Sequence[int]], bool]) -> list[int]:
    """Try each difference alone; then leave each out, the least likely first, until none can be left out."""
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
    """Run ddmin as published, starting with two parts."""
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
    """Split into `parts` runs whose lengths differ by at most 1; none is empty if `parts <= len(indices)`."""
    bounds = [len(indices) * at // parts for at in range(parts + 1)]
    return [indices[first:last] for first, last in pairwise(bounds)]
