"""What is wrong with a recipe file, each fault at its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong in a recipe."""

    path: str
    """The file that holds the offending text, as a POSIX path from the root (absolute where it lies outside)."""
    line: int
    """Line in the file, from 1."""
    column: int
    """Column in the line, in characters from 1."""
    text: str
    """What is wrong, with the offending value, and what is allowed."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.text}"


class RecipeError(ValueError):
    """A recipe that cannot be run, with every fault that was found in it, in order of place."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(map(str, self.faults))
