"""A training log as a value, whatever format it came in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Point(NamedTuple):
    """What a log says of one step."""

    step: int
    """As logged: usually optimizer steps."""
    loss: float
    """Training loss; NaN and infinity as logged."""
    lr: float | None = None
    """Learning rate; the last one logged, where it is logged less often than the loss."""
    grad_norm: float | None = None
    """Gradient norm, where logged."""
    probe_loss: float | None = None
    """Loss on a fixed batch, where logged."""
    terms: Mapping[str, float] = {}
    """Component losses by column name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The points of one log, by rising step, one a step."""

    path: str
    """As given; `-` for the standard input."""
    points: tuple[Point, ...]
    """At least one."""
    loss_column: str
    """The column that was taken as the loss."""
    known_columns: frozenset[str] = frozenset()
    """The columns that `points` hold, with the step's and the epoch's."""
    notes: tuple[str, ...]
    """What was cut, dropped, guessed or missing; a sentence each."""
    rows: Sequence[tuple[int, Mapping[str, float | None]]] = field(default=(), repr=False, compare=False)
    """Step and cells of every record, in file order: what else the log has, see `other_columns`."""

    def other_columns(self) -> dict[str, list[tuple[int, float]]]:
        """The columns that no `Point` holds, as `(step, value)` by rising step; of a step the newest value."""
        found: dict[str, dict[int, float]] = {}
        for step, cells in self.rows:
            for name, value in cells.items():
                if value is not None and name not in self.known_columns:
                    found.setdefault(name, {})[step] = value
        return {name: sorted(points.items()) for name, points in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Columns that the user named; None: recognised by name."""

    loss: str | None = None
    lr: str | None = None
    step: str | None = None


Cell = str | float | None
"""As logged: text (also a blank), a number, or null."""


class Row(NamedTuple):
    """One record of a log."""

    line: int
    """Line or entry of the file, from 1."""
    cells: Mapping[str, Cell]
    """By column; a column that is not there was not logged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The records of a log, in file order, before anything is known of their columns."""

    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    unit: str = "line"
    """What `Row.line` counts."""
