"""How often Python collects garbage in a session of thousands of smoke runs.

A full collection visits every item and report that pytest keeps. It takes as long as hundreds of preflights, and frees
next to nothing: the garbage of a preflight is in the young generations.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_smoke.collect.item import SmokeItem

NEVER = 2**30
"""Threshold of the oldest generation: so many collections of the middle one come before a full collection."""


class FewerCollections:
    """Saves a session that only preflights most full collections.

    Not one that trains, whose tasks may leave tensors in cycles.
    """

    def __init__(self, config: pytest.Config) -> None:
        previous = gc.get_threshold()
        gc.set_threshold(*previous[:2], NEVER)
        config.add_cleanup(lambda: gc.set_threshold(*previous))
        self._may_freeze = gc.get_freeze_count() == 0
        """Whether only preflights are executed, and nobody else in this process freezes objects."""
        if self._may_freeze:
            config.add_cleanup(gc.unfreeze)  # now, so that it comes after the full collection of pytest's own

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Remember whether code of other items is executed."""
        self._may_freeze &= all(isinstance(item, SmokeItem) for item in session.items)

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Spare the objects of this session the full collections at its end, and at that of the process.

        With those at its end pytest finds finalizers that raise. Preflights leave none: they execute no code of tasks.
        """
        atexit.unregister(gc.freeze)  # of an earlier session in this process
        atexit.register(gc.freeze)
        if self._may_freeze:
            gc.freeze()


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no garbage in the block: rendering makes many objects and no cycles, and is over soon."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
