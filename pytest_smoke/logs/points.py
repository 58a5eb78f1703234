"""Turn the records of a log into points: steps, restarts, duplicates, gaps. Every decision leaves a note."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from pytest_smoke.errors import LogError
from pytest_smoke.logs.log import ColumnNames, Log, Point, Table
from pytest_smoke.logs.numbers import (
    ChosenColumns,
    NumericTable,
    check_texts,
    choose_columns,
    mark_nan_blanks,
    read_numbers,
)
from pytest_smoke.text import count

_RESTARTS_SHOWN = 3
_MIXED = 0.05
"""Share of backward steps from which a log is a mixture of runs or ranks, and not one resumed run."""


def points_of(path: str, table: Table, names: ColumnNames) -> Log:
    """Return a log with the points of its records. Raises LogError."""
    notes = list(table.notes)
    numbers = read_numbers(table)
    chosen = choose_columns(numbers, names, notes)
    check_texts(numbers, chosen, table.unit, notes)
    mark_nan_blanks(numbers, chosen, table, notes)
    rows = list(_stepped(numbers, chosen, table, notes))
    points = _sequence(rows, chosen, table.noun, notes)
    if not points:
        raise LogError("no-points", f"column {chosen.loss!r} has no number at any step")
    notes += _gaps([point.step for point in points])
    notes += _other_nans(numbers, chosen, table.unit)
    known = {chosen.loss, chosen.lr, chosen.step, chosen.epoch, chosen.grad_norm, chosen.probe, *chosen.terms}
    return Log(
        path=path,
        points=tuple(points),
        loss_column=chosen.loss,
        known_columns=frozenset(filter(None, known)),
        notes=tuple(notes),
        rows=rows,
    )


Stepped = tuple[int, dict[str, float | None]]
"""Step and cells."""


def _stepped(numbers: NumericTable, chosen: ChosenColumns, table: Table, notes: list[str]) -> Iterable[Stepped]:
    """Return the rows with their steps. Without a step column, these are rising whole epochs, or the row numbers."""
    if chosen.step is not None:
        return list(_by_column(numbers, chosen.step, chosen, table, notes))
    rows = [row for _, row in numbers.rows if row.get(chosen.loss) is not None]
    if chosen.epoch is not None:
        epochs = [row.get(chosen.epoch) for row in rows]
        whole = [int(epoch) for epoch in epochs if epoch is not None and epoch.is_integer()]
        if len(whole) == len(rows) and all(a < b for a, b in pairwise(whole)):
            notes.append(f"there is no step column: the steps are the epochs in column {chosen.epoch!r}")
            return list(zip(whole, rows, strict=True))
    notes.append("there is no step column: points are numbered from 0 in file order; --step NAME selects one")
    return _numbered(numbers, chosen)


def _numbered(numbers: NumericTable, chosen: ChosenColumns) -> Iterator[Stepped]:
    at = -1
    for _, row in numbers.rows:
        at += row.get(chosen.loss) is not None
        if at >= 0:
            yield at, row


def _by_column(
    numbers: NumericTable, step: str, chosen: ChosenColumns, table: Table, notes: list[str]
) -> Iterator[Stepped]:
    missing, offset, epochs = 0, 0, 0
    last: tuple[float, float] | None = None
    top = -1
    for line, row in numbers.rows:
        at, has_loss = row.get(step), row.get(chosen.loss) is not None
        if at is None:
            missing += has_loss
            continue
        if not at.is_integer():
            raise LogError(
                "bad-step",
                f"{table.unit} {line}: {step!r} is {at}, not a whole number; select another column with --step NAME",
            )
        epoch = row.get(chosen.epoch) if chosen.epoch else None
        if has_loss and epoch is not None:
            if last is not None and at < last[0] and epoch > last[1]:
                offset, epochs = top + 1 - int(at), epochs + 1
            last = (at, epoch)
        top = max(top, offset + int(at)) if has_loss else top
        yield offset + int(at), row
    if epochs:
        notes.append(
            f"{step!r} restarts in each epoch ({chosen.epoch!r}): steps are counted across {epochs + 1} epochs"
        )
    if missing:
        notes.append(f"skipped {count(missing, table.noun)} with a loss but no {step!r}")


@dataclass(slots=True, kw_only=True)
class _Repeats:
    """Where the steps of a log do not rise."""

    noun: str
    """What a record is called."""
    duplicates: list[int] = field(default_factory=list)
    restarts: list[tuple[int, int, int]] = field(default_factory=list)
    """Step before, step after, number of dropped points."""

    def notes(self) -> Iterator[str]:
        if self.duplicates:
            first = self.duplicates[0]
            if len(self.duplicates) == 1:
                yield f"skipped 1 {self.noun}: a newer {self.noun} has the same step (first: step {first})"
            else:
                skipped = count(len(self.duplicates), self.noun)
                yield f"skipped {skipped}: newer {self.noun}s have the same steps (first: step {first})"
        for before, back, dropped in self.restarts[:_RESTARTS_SHOWN]:
            yield (
                f"steps go back from {before} to {back}, as in a resumed run: "
                f"skipped {count(dropped, f'older {self.noun}')} from step {back} on"
            )
        if len(self.restarts) > _RESTARTS_SHOWN:
            yield f"steps go back {len(self.restarts)} times in total; newer {self.noun}s replaced older ones each time"


def _sequence(stepped: Iterable[Stepped], chosen: ChosenColumns, noun: str, notes: list[str]) -> list[Point]:
    """Return one point per step, by rising step. Values of rows without a loss go to the point of the same step."""
    merged: list[tuple[int, dict[str, float | None]]] = []
    waiting: dict[int, dict[str, float | None]] = {}
    repeats = _Repeats(noun=noun)
    total = 0
    for step, row in stepped:
        cells = {name: value for name, value in row.items() if value is not None}
        if chosen.loss not in cells:
            target = merged[-1][1] if merged and merged[-1][0] == step else waiting.setdefault(step, {})
            target.update(cells)
            continue
        total += 1
        if merged and step == merged[-1][0]:
            repeats.duplicates.append(step)
            merged[-1][1].update(cells)
            continue
        if merged and step < merged[-1][0]:
            before, points = merged[-1][0], len(merged)
            while merged and merged[-1][0] >= step:
                merged.pop()
            repeats.restarts.append((before, step, points - len(merged)))
        merged.append((step, {**waiting.pop(step, {}), **cells}))
    if len(repeats.restarts) > max(3, _MIXED * total):
        raise LogError(
            "steps-unordered",
            f"steps go back {len(repeats.restarts)} times in {total} points, first from {repeats.restarts[0][0]} to "
            f"{repeats.restarts[0][1]}: several runs or ranks share this log; split it, or select another column with "
            "--step NAME",
        )
    notes += repeats.notes()
    return _as_points(merged, waiting, chosen)


def _as_points(
    merged: list[tuple[int, dict[str, float | None]]],
    waiting: Mapping[int, Mapping[str, float | None]],
    chosen: ChosenColumns,
) -> list[Point]:
    """Return points with the last learning rate up to each step, also from records without a loss."""
    rates = sorted(
        (step, rate) for step, cells in waiting.items() if chosen.lr and (rate := cells.get(chosen.lr)) is not None
    )
    rates.reverse()
    points, lr = [], None
    for step, cells in merged:
        while rates and rates[-1][0] <= step:
            lr = rates.pop()[1]
        own = cells.get(chosen.lr) if chosen.lr else None
        lr = own if own is not None else lr
        loss = cells[chosen.loss]
        assert loss is not None
        points.append(
            Point(
                step=step,
                loss=loss,
                lr=lr if lr is None or math.isfinite(lr) else None,
                grad_norm=cells.get(chosen.grad_norm) if chosen.grad_norm else None,
                probe_loss=cells.get(chosen.probe) if chosen.probe else None,
                terms={name: value for name in chosen.terms if (value := cells.get(name)) is not None},
            )
        )
    return points


def _gaps(steps: list[int]) -> Iterator[str]:
    """Note the widest gap between points, if it is five times the median step between points or more."""
    strides = [b - a for a, b in pairwise(steps)]
    if len(strides) < 5:
        return
    usual = median(strides)
    wide = [(a, b) for a, b in pairwise(steps) if b - a >= 5 * usual]
    if wide:
        a, b = max(wide, key=lambda gap: gap[1] - gap[0])
        more = f"; {count(len(wide) - 1, 'more gap')} in the log" if len(wide) > 1 else ""
        yield f"no points between steps {a} and {b}, where the usual distance is {usual:g}{more}"


def _other_nans(numbers: NumericTable, chosen: ChosenColumns, unit: str) -> Iterator[str]:
    """Note each numeric column that has NaN but does not affect the verdict."""
    judged = {chosen.loss, chosen.grad_norm, chosen.probe, *chosen.terms}
    first: dict[str, int] = {}
    for line, row in numbers.rows:
        for name, value in row.items():
            if value is not None and value != value and name not in judged:
                first.setdefault(name, line)
    for name, line in first.items():
        yield f"{name!r} has NaN (first: {unit} {line}); this column does not affect the verdict"
