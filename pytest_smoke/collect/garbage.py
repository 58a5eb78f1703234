"""How often Python collects garbage in a session of thousands of smoke runs.

A full collection visits every item and report that pytest keeps. It takes as long as hundreds of preflights, and frees
next to nothing: the garbage of a preflight is in the young generations.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NEVER = 2**30
"""Threshold of the oldest generation: so many collections of the middle one come before a full collection."""


def without_full_collections() -> Callable[[], None]:
    """Collect only the young generations from now on; return a function that undoes this.

    Not for a session that trains: a task's cycles may hold tensors. pytest makes a full collection at its end.
    """
    previous = gc.get_threshold()
    gc.set_threshold(*previous[:2], NEVER)
    return lambda: gc.set_threshold(*previous)


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
