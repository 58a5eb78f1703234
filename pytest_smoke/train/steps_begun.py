"""Count the steps of a training process in memory that outlives it: a killed one reports no more. Imports no torch."""

from __future__ import annotations

import os
import sys
import tempfile
from mmap import mmap
from multiprocessing.connection import Connection

COUNT_BYTES = 8
"""Size of the memory: one integer."""


def shared_memory() -> Connection:
    """Return memory for a count, as something that can be passed to a process when it is started. Raises OSError."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("steps-begun")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, COUNT_BYTES)
    return Connection(descriptor)


def count_in(memory: Connection) -> int:
    """Return the count in this memory."""
    return int.from_bytes(os.pread(memory.fileno(), COUNT_BYTES, 0), sys.byteorder)


class StepsBegun:
    """The training process's side of the memory, which it closes."""

    def __init__(self, memory: Connection) -> None:
        self._mapped = mmap(memory.fileno(), COUNT_BYTES)
        memory.close()

    def count(self, steps: int) -> None:
        """Set the count."""
        self._mapped[:] = steps.to_bytes(COUNT_BYTES, sys.byteorder)
