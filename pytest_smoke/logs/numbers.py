"""The cells of a log as numbers, the roles of its columns, and blank cells that stand for NaN."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from pytest_smoke.errors import LogError
from pytest_smoke.logs import columns
from pytest_smoke.logs.log import Cell, ColumnNames, Table
from pytest_smoke.text import count

_TENSOR = re.compile(r"tensor\(\s*([^,()\s]+)\s*[,)]")
_BLANK = {"", "none", "null", "n/a", "na", "-", "--"}
_RARE = 0.1
"""Nulls are NaN up to this share of the losses; with more of them, the loss is logged only now and then."""

_SUMMARY = ("train_runtime", "train_samples_per_second")
"""Hugging Face ends a log with a record that has these columns; its `train_loss` is the mean of the run."""


def number(cell: Cell) -> float | None:
    """Return the number in a cell, None for a blank or null. Raises ValueError for any other text."""
    if cell is None:
        return None
    try:
        return float(cell)
    except ValueError:
        text = str(cell).strip()
        if text.lower() in _BLANK:
            return None
        found = _TENSOR.match(text)
        if found is None:
            raise
        return float(found.group(1))


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericTable:
    """The records of a log with their cells as numbers."""

    rows: list[tuple[int, dict[str, float | None]]]
    """Line, and the cells that are a number or blank."""
    nulls: set[tuple[int, str]]
    """Line and column of each explicit null."""
    counts: Counter[str]
    """Amount of numbers by column, without columns that have none."""
    texts: dict[str, tuple[int, str, int]]
    """First line, text and number of cells with other text, by column."""


def read_numbers(table: Table) -> NumericTable:
    """Convert the cells of all records to numbers."""
    rows: list[tuple[int, dict[str, float | None]]] = []
    nulls: set[tuple[int, str]] = set()
    counts: Counter[str] = Counter()
    texts: dict[str, tuple[int, str, int]] = {}
    for line, cells in table.records:
        if all(cells.get(name) for name in _SUMMARY):
            continue
        read: dict[str, float | None] = {}
        for name, cell in cells.items():
            try:
                value = read[name] = number(cell)
            except ValueError:
                first, text, often = texts.get(name, (line, str(cell), 0))
                texts[name] = (first, text, often + 1)
                continue
            if value is not None:
                counts[name] += 1
            elif not isinstance(cell, str):
                nulls.add((line, name))
        rows.append((line, read))
    return NumericTable(rows=rows, nulls=nulls, counts=counts, texts=texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenColumns:
    """The column of each role; None if the log has none."""

    loss: str
    lr: str | None
    step: str | None
    epoch: str | None
    grad_norm: str | None
    probe: str | None
    terms: list[str]


def choose_columns(numbers: NumericTable, names: ColumnNames, notes: list[str]) -> ChosenColumns:
    """Return the columns that the user named or that are recognized. Raises LogError."""
    counts = numbers.counts
    known = list(dict.fromkeys([*counts, *numbers.texts]))
    if names.loss is not None:
        loss = columns.named_column(names.loss, "--loss", known)
    else:
        try:
            loss, more = columns.loss_column(counts)
        except LogError:
            loss, more = columns.loss_column(dict.fromkeys(known, 1))  # it may hold text; check_texts says so
        notes += more
    if names.lr is not None:
        lr: str | None = columns.named_column(names.lr, "--lr", known)
    else:
        lr, more = columns.lr_column(counts)
        notes += more
    with_loss = [row for _, row in numbers.rows if loss in row]
    filled = Counter(name for row in with_loss for name, value in row.items() if value is not None)
    fractions = {
        name for row in with_loss for name, value in row.items() if value is not None and not value.is_integer()
    }
    whole = {name: amount for name, amount in filled.items() if name not in fractions}
    step = columns.named_column(names.step, "--step", known) if names.step is not None else columns.step_column(whole)
    grad_norm, probe = columns.grad_norm_column(counts), columns.probe_column(counts)
    taken = {loss, lr, step, grad_norm, probe}
    return ChosenColumns(
        loss=loss,
        lr=lr,
        step=step,
        epoch=columns.epoch_column(filled),
        grad_norm=grad_norm,
        probe=probe,
        terms=[name for name in counts if name not in taken and columns.is_component(name)],
    )


def check_texts(numbers: NumericTable, chosen: ChosenColumns, unit: str, notes: list[str]) -> None:
    """Note texts in the columns that are used. Raises LogError for a text in the loss."""
    for name, (line, text, cells) in numbers.texts.items():
        if name == chosen.loss:
            more = f" (and {count(cells - 1, 'more value')})" if cells > 1 else ""
            raise LogError("not-a-number", f"{unit} {line}: {name!r} is {text[:40]!r}, not a number{more}")
        if name in (chosen.step, chosen.lr, chosen.grad_norm, chosen.probe, *chosen.terms) and numbers.counts[name]:
            what = "that is not a number" if cells == 1 else "that are not numbers"
            first = f"first: {unit} {line} has {text[:40]!r}"
            notes.append(f"skipped {count(cells, 'value')} of {name!r} {what} ({first})")


def mark_nan_blanks(numbers: NumericTable, chosen: ChosenColumns, table: Table, notes: list[str]) -> None:
    """Write NaN into loss cells that are blank or null because the loss was NaN.

    JSON has no NaN, and pandas writes NaN as a blank; but a sparse log has blank cells, too. A blank can be NaN only in
    a row that has the other columns of a row with a loss. It is NaN if two or more of them end the log, more than three
    times as many as the longest earlier series. A null is also NaN if such rows are rare.
    """
    if all(row[chosen.loss] is not None for _, row in numbers.rows if chosen.loss in row):
        return
    ignored = {chosen.loss, chosen.grad_norm}

    def shape(row: Mapping[str, float | None]) -> frozenset[str]:
        return frozenset(name for name, value in row.items() if value is not None and name not in ignored)

    shapes = {shape(row) for _, row in numbers.rows if row.get(chosen.loss) is not None}
    like = [(line, row) for line, row in numbers.rows if chosen.loss in row and shape(row) in shapes]
    runs = [(blank, list(run)) for blank, run in groupby(like, key=lambda entry: entry[1][chosen.loss] is None)]
    tail = runs.pop()[1] if runs and runs[-1][0] else []
    inner = [entry for blank, run in runs if blank for entry in run]
    rare = len(inner) <= _RARE * (len(like) - len(inner) - len(tail))
    ends = len(tail) >= 2 and len(tail) > 3 * max((len(run) for blank, run in runs if blank), default=0)
    nans = [entry for entry in inner + tail if rare and (entry[0], chosen.loss) in numbers.nulls]
    if ends:
        nans = [entry for entry in nans if entry[0] < tail[0][0]] + tail
    for _, row in nans:
        row[chosen.loss] = math.nan
    if nans:
        line = nans[0][0]
        kind = "null" if (line, chosen.loss) in numbers.nulls else "blank"
        are = "is" if len(nans) == 1 else "are"
        first = f"first: {table.unit} {line}"
        notes.append(f"{count(len(nans), 'value')} of the loss {are} {kind} and read as NaN ({first})")
    elif rare and (inner or tail):
        first = f"first: {table.unit} {(inner + tail)[0][0]}"
        notes.append(f"skipped {count(len(inner) + len(tail), table.noun)} without a loss ({first})")
