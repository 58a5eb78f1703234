"""The steps of a log: every one, every 50th, with gaps."""

from __future__ import annotations


class StepSpacing:
    """Strides between points. Call `add` only where the stride is not the usual one: it then costs a point nothing."""

    def __init__(self) -> None:
        self.stride = 0
        """Smallest stride seen, in steps, but for an odd first one; 0 before two points."""
        self._first_end: int | None = None
        self._gaps = 0
        self._widest = (0, 0)
        self._backwards = 0

    def add(self, before: int, step: int) -> None:
        """`step` follows `before`."""
        stride = step - before
        if stride <= 0:
            self._backwards += 1
        elif not self.stride:
            self.stride, self._first_end = stride, step
        elif stride < self.stride or before == self._first_end:
            self.stride = stride  # steps 1, 10, 20, ...: trainers that also log their first step
        elif stride > self.stride:
            self._gaps += 1
            if stride > self._widest[1] - self._widest[0]:
                self._widest = (before, step)

    def notes(self) -> list[str]:
        """What is unusual about it."""
        notes = []
        if self.stride > 1:
            notes.append(f"one point for every {self.stride} steps")
        if self._gaps:
            first, last = self._widest
            notes.append(f"{self._gaps} gap{'s' * (self._gaps > 1)} in the steps, the widest from {first} to {last}")
        if self._backwards:
            notes.append(f"{self._backwards} step{'s do' if self._backwards > 1 else ' does'} not increase")
        return notes
