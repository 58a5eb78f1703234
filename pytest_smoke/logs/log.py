"""A training log as plain data, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Point(NamedTuple):
    """The values that a log has for one step."""

    step: int
    """As logged; usually optimizer steps."""
    loss: float
    """Training loss; NaN and infinity as logged."""
    lr: float | None = None
    """Learning rate; the last logged one, if it is logged less often than the loss."""
    grad_norm: float | None = None
    """Gradient norm, if logged."""
    probe_loss: float | None = None
    """Loss on a fixed batch, if logged."""
    terms: Mapping[str, float] = {}
    """Loss terms by column name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The points of one log: one per step, by rising step."""

    path: str
    """As given; `-` for standard input."""
    points: tuple[Point, ...]
    """At least one."""
    loss_column: str
    """The column that is used as the loss."""
    known_columns: frozenset[str] = frozenset()
    """The columns that are part of `points`, and those of the step and the epoch."""
    notes: tuple[str, ...]
    """What was dropped, guessed or missing, one sentence each."""
    rows: Sequence[tuple[int, Mapping[str, float | None]]] = field(default=(), repr=False, compare=False)
    """Step and cells of every record, in file order; see `other_columns`."""

    def other_columns(self) -> dict[str, list[tuple[int, float]]]:
        """Return the columns that are not part of `points`, as `(step, value)` by rising step; newer values win."""
        columns: dict[str, dict[int, float]] = {}
        for step, cells in self.rows:
            for name, value in cells.items():
                if value is not None and name not in self.known_columns:
                    columns.setdefault(name, {})[step] = value
        return {name: sorted(points.items()) for name, points in columns.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnNames:
    """Columns that the user named; None for columns that are recognized by their names."""

    loss: str | None = None
    lr: str | None = None
    step: str | None = None


Cell = str | float | None
"""As logged: text (perhaps blank), a number, or null."""


class Record(NamedTuple):
    """One record of a log."""

    line: int
    """Line, record or event of the file, from 1."""
    cells: Mapping[str, Cell]
    """By column; without the columns that this record does not log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The records of a log in file order, before their columns are interpreted."""

    records: list[Record]
    notes: list[str] = field(default_factory=list)
    unit: str = "line"
    """What `Record.line` counts: `line`, `record` or `event`."""
    noun: str = "line"
    """What a record is called: `row`, `line`, `record` or `event`."""
