"""A training log as plain data, whatever its format."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple, overload

from pytest_smoke.logs.table import Table


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


Series = Sequence[float | None] | None
"""A value per point, None where it was not logged; None for a series that the log does not have."""


class Points(Sequence[Point]):
    """The points of a log, kept as arrays: a million of them take a few dozen megabytes."""

    def __init__(
        self,
        steps: Sequence[int],
        losses: Sequence[float],
        *,
        lr: Series = None,
        grad_norm: Series = None,
        probe_loss: Series = None,
        terms: Mapping[str, Sequence[float | None]] | None = None,
    ) -> None:
        self.steps, self.losses = array("q", steps), array("d", losses)
        self.lr, self.grad_norm, self.probe_loss, self.terms = lr, grad_norm, probe_loss, dict(terms or {})

    def __len__(self) -> int:
        return len(self.steps)

    @overload
    def __getitem__(self, at: int) -> Point: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Point]: ...
    def __getitem__(self, at: int | slice) -> Point | Sequence[Point]:
        if isinstance(at, slice):
            return tuple(self[one] for one in range(*at.indices(len(self))))
        return Point(
            self.steps[at],
            self.losses[at],
            self.lr[at] if self.lr is not None else None,
            self.grad_norm[at] if self.grad_norm is not None else None,
            self.probe_loss[at] if self.probe_loss is not None else None,
            {name: value for name, values in self.terms.items() if (value := values[at]) is not None},
        )

    def __iter__(self) -> Iterator[Point]:
        if self.terms:
            return (self[at] for at in range(len(self)))
        series = (repeat(None) if one is None else one for one in (self.lr, self.grad_norm, self.probe_loss))
        return map(Point, self.steps, self.losses, *series)

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Points | tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash((len(self), self.steps.tobytes(), self.losses.tobytes()))


@dataclass(frozen=True, slots=True, kw_only=True)
class NonFinite:
    """NaN, infinity or the trainer's own words about them, outside the points of a log."""

    step: int | None
    """The step, or the last one before it; None if the log has no step there."""
    series: str
    text: str
    """The sentence that says what was found and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The points of one run of a log: one per step, by rising step."""

    path: str
    """As given; `-` for standard input."""
    points: Sequence[Point]
    """At least one, unless the log is decided by `non_finite` alone."""
    loss_column: str
    """The column that is used as the loss; empty if none could be chosen."""
    lr_column: str | None = None
    step_column: str | None = None
    """The column of the steps; None if the points are numbered."""
    known_columns: frozenset[str] = frozenset()
    """The columns that are part of `points`, and those of the step and the epoch."""
    notes: tuple[str, ...]
    """What was chosen, dropped, guessed or missing, one sentence each."""
    non_finite: NonFinite | None = None
    """The first NaN or infinity in a column that could be a loss or is a gradient norm, and is not part of `points`."""
    run: str = ""
    """Which run of a log with several, as `seed 2`; empty for the only one."""
    table: Table | None = field(default=None, repr=False, compare=False)
    row_steps: Sequence[int] = field(default=(), repr=False, compare=False)
    """Step of each row of the table, -1 for a row without one."""

    def other_columns(self) -> dict[str, list[tuple[int, float]]]:
        """Return the columns that are not part of `points`, as `(step, value)` by rising step; newer values win."""
        found: dict[str, list[tuple[int, float]]] = {}
        for name, column in self.table.columns.items() if self.table and self.row_steps else ():
            if name in self.known_columns:
                continue
            steps = {
                self.row_steps[row]: value
                for row, value in zip(column.rows, column.values, strict=True)
                if self.row_steps[row] >= 0
            }
            if steps:
                found[name] = sorted(steps.items())
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnNames:
    """Columns that the user named; None for columns that are recognized by their names."""

    loss: str | None = None
    lr: str | None = None
    step: str | None = None
    probe_loss: str | None = None
