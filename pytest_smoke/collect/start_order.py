"""The order in which pytest-xdist starts smoke runs: the longest first, so that none is left alone at the end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import pytest

from pytest_smoke.collect.item import SmokeItem
from pytest_smoke.outcome import Outcome

CACHE = "smoke/seconds"
"""Key in pytest's cache: the seconds of the newest run of each item."""
ORDER = "smoke_order"
"""Key in a worker's input of what it orders its items by: all workers must have the same order."""
LOAD_CHUNK = 2
"""Items that `--dist load` gives to a worker at a time: the one that it executes, and the next one."""
T = TypeVar("T")


class StartOrder:
    """The controller's side: remembers seconds, and sends them to its workers. Registered as a plugin."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._cache: Any = getattr(config, "cache", None)  # not with `-p no:cacheprovider`
        stored = self._cache.get(CACHE, {}) if self._cache is not None else {}
        self._known = {
            key: float(value)
            for key, value in (stored.items() if isinstance(stored, dict) else ())
            if isinstance(value, int | float) and math.isfinite(value)
        }
        self._new: dict[str, float] = {}
        option = config.option
        if getattr(option, "dist", "no") == "load" and getattr(option, "maxschedchunk", 0) is None:
            option.maxschedchunk = 1  # by default a worker gets a quarter of its share at once

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Send what items are ordered by, the same to a worker that replaces another."""
        node.workerinput[ORDER] = {"dist": self._config.option.dist, "seconds": self._known}

    def pytest_smoke_outcome(self, outcome: Outcome) -> None:
        """Remember how long a run took that was not cut off."""
        facts = outcome.facts
        if facts.seconds is not None and facts.steps and outcome.reason != "interrupted":
            self._new[outcome.id] = facts.seconds

    def pytest_sessionfinish(self) -> None:
        """Store it, and forget recipes that are gone."""
        if self._new and self._cache is not None:
            root = self._config.rootpath
            kept = {key: value for key, value in self._known.items() if (root / key.partition("::")[0]).is_file()}
            self._cache.set(CACHE, kept | self._new)


def order_items(items: list[pytest.Item], config: pytest.Config) -> None:
    """Order the items of a worker. Tests stay in their order, behind the smoke runs of recipes: they share fixtures."""
    given: Mapping[str, Any] = getattr(config, "workerinput", {})
    if ORDER not in given:
        return
    seconds: Mapping[str, float] = given[ORDER]["seconds"]
    runs = [item for item in items if isinstance(item, SmokeItem)]
    tests = [item for item in items if not isinstance(item, SmokeItem)]
    runs.sort(key=lambda item: (-seconds.get(item.nodeid, math.inf), -item.case.run_steps))
    items[:] = dealt(runs, tests, first_chunks(given[ORDER]["dist"], len(items), int(given["workercount"])))


def first_chunks(dist: str, items: int, workers: int) -> list[int]:
    """Return how many consecutive items pytest-xdist 3.8 gives to each worker at first; nothing for one by one."""
    if dist == "load" and items >= LOAD_CHUNK * workers:
        return [LOAD_CHUNK] * workers
    if dist == "worksteal":
        return [(items + worker) // workers for worker in range(workers)]
    return []


def dealt(runs: Sequence[T], others: Sequence[T], chunks: Sequence[int]) -> list[T]:
    """Return all items, `runs` dealt in turn to the chunks, which `others` fill up in their order.

    The turn goes back and forth, so that whoever begins with the longest run continues with the shortest of the next.
    """
    hands: list[list[T]] = [[] for _ in chunks]
    left = list(reversed(runs))
    for worker in _back_and_forth(chunks):
        if left and len(hands[worker]) < chunks[worker]:
            hands[worker].append(left.pop())
    rest = iter([*reversed(left), *others])
    for hand, size in zip(hands, chunks, strict=True):
        hand += [item for _, item in zip(range(size - len(hand)), rest, strict=False)]
    return [*(item for hand in hands for item in hand), *rest]


def _back_and_forth(chunks: Sequence[int]) -> Iterator[int]:
    for turn in range(max(chunks, default=0)):
        yield from range(len(chunks)) if turn % 2 == 0 else reversed(range(len(chunks)))
