"""A training log as a value, whatever format it came in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class LogError(ValueError):
    """The log cannot be judged; `reason` is one word for scripts, the message one sentence for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


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
    notes: tuple[str, ...]
    """What was cut, dropped, guessed or missing; a sentence each."""


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
