"""Spacing of the logged steps: every step, every 50th, with gaps."""

from __future__ import annotations

from pytest_smoke.text import count


class StepSpacing:
    """Find the usual distance between points, gaps, and steps that do not increase.

    Call `add` only where the distance differs from `stride`, so that a regular log costs nothing.
    """

    def __init__(self) -> None:
        self.stride = 0
        """Usual distance between points in steps: the smallest so far but for the first; 0 before the second point."""
        self._first_stride_end: int | None = None
        self._gaps = 0
        self._widest_gap = (0, 0)
        self._backward_steps = 0

    def add(self, previous: int, step: int) -> None:
        """Add the distance from `previous` to `step`."""
        stride = step - previous
        if stride <= 0:
            self._backward_steps += 1
        elif not self.stride:
            self.stride, self._first_stride_end = stride, step
        elif stride < self.stride or previous == self._first_stride_end:
            self.stride = stride  # steps 1, 10, 20, ...: some trainers also log their first step
        elif stride > self.stride:
            self._gaps += 1
            if stride > self._widest_gap[1] - self._widest_gap[0]:
                self._widest_gap = (previous, step)

    def notes(self) -> list[str]:
        """Describe what is unusual about the steps."""
        notes = []
        if self.stride > 1:
            notes.append(f"one point for every {self.stride} steps")
        if self._gaps:
            first, last = self._widest_gap
            notes.append(f"{count(self._gaps, 'gap')} in the steps, the widest from {first} to {last}")
        if self._backward_steps:
            notes.append(f"the step number does not increase at {count(self._backward_steps, 'point')}")
        return notes
