"""When Python looks for cycles of garbage in a session of thousands of smoke runs.

A search among all objects visits every item and report that pytest keeps. It takes as long as hundreds of preflights,
and finds next to nothing: what a preflight leaves behind is young.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NEVER = 2**30
"""Searches among young objects after which the oldest ones are searched, too."""


def leave_old_objects_alone() -> Callable[[], None]:
    """Search only among young objects from now on; return a function that undoes this.

    Not for a session that trains: a task's cycles may hold tensors. pytest searches among all objects at its end.
    """
    previous = gc.get_threshold()
    gc.set_threshold(*previous[:2], NEVER)
    return lambda: gc.set_threshold(*previous)


@contextmanager
def without_collection() -> Iterator[None]:
    """Do not search at all: rendering makes many objects and no cycles, and is over soon."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
