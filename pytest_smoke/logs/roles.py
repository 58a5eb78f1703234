"""The roles of a log's columns, and blank cells that stand for NaN."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from pytest_smoke.errors import LogError
from pytest_smoke.logs import columns
from pytest_smoke.logs.log import ColumnNames
from pytest_smoke.logs.table import SUMMARY, Column, Table
from pytest_smoke.text import count

_RARE = 0.1
"""Nulls are NaN up to this share of the losses; with more of them, the loss is logged only now and then."""
_MOST = 0.5
"""A column belongs to the rows with a loss if at least this share of them have it."""
_FORMS = 20
"""Forms of records up to which one of them is the usual one; in prose, every line has its own."""
_RARE_FORM = 0.25
"""A form of record is rare if it has at most this share of the losses of the usual one."""
_CARRIED = 0.2
"""Share of repeated losses from which a table is one of evaluations, more frequent than its training losses ..."""
_MIN_LEVELS = 3
"""... if it has this many different losses: a run that is stuck repeats its loss as well."""
_TOGETHER = 0.9
"""Terms are summed if at least this share of the rows with one of them have all."""
_MANY_LOSSES = 2
"""With more losses than this, a column with the same number for all of them does not count steps."""
MAX_STEP = 2**53
"""Larger numbers in a column of steps have no exact float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """The column of each role; None if the log has none."""

    loss: str
    lr: str | None
    grad_norm: str | None
    probe: str | None
    epoch: str | None
    terms: list[str]

    @property
    def judged(self) -> set[str]:
        """Names of the columns whose values are judged."""
        return {name for name in (self.loss, self.grad_norm, self.probe, *self.terms) if name}


def counts_of(table: Table) -> Counter[str]:
    """Return the amount of numbers by column, without columns that have none."""
    return Counter({name: len(column.rows) for name, column in table.columns.items() if column.rows})


def known_names(table: Table) -> list[str]:
    """Return the columns with a number or a text, those with numbers first."""
    counts = counts_of(table)
    return [*counts, *(name for name, column in table.columns.items() if column.texts and name not in counts)]


def choose_roles(table: Table, names: ColumnNames, notes: list[str]) -> Roles:
    """Return the columns that the user named or that are recognized. Raises LogError."""
    counts = counts_of(table)
    known = known_names(table)
    if names.loss is not None:
        loss = columns.named_column(names.loss, "--loss", known)
    else:
        loss = _choose_loss(table, counts, known, notes)
    if names.lr is not None:
        lr: str | None = columns.named_column(names.lr, "--lr", known)
    else:
        lr, more = columns.lr_column(counts)
        notes += more
    grad_norm, probe, epoch = (
        columns.grad_norm_column(counts),
        columns.probe_column(counts)
        if names.probe_loss is None
        else columns.named_column(names.probe_loss, "probe_loss", known),
        columns.epoch_column(counts),
    )
    taken = {loss, lr, grad_norm, probe}
    terms = [
        name for name in counts if name not in taken and columns.is_component(name) and not _is_average(name, loss)
    ]
    return Roles(loss=loss, lr=lr, grad_norm=grad_norm, probe=probe, epoch=epoch, terms=terms)


def _is_average(name: str, loss: str) -> bool:
    return name.startswith(loss + "__")


def _choose_loss(table: Table, counts: Counter[str], known: list[str], notes: list[str]) -> str:
    try:
        loss, more = columns.loss_column(counts)
    except LogError:
        if (terms := columns.summable(counts)) and (total := _sum_of(table, terms)) is not None:
            quoted = " + ".join(map(repr, terms))
            notes.append(
                f"the log has no total loss: the sum of its terms is judged, {quoted}; --loss NAME selects one"
            )
            return total
        loss, more = columns.loss_column(dict.fromkeys(known, 1))  # it may hold text; check_texts says so
    notes += more
    return loss


def _sum_of(table: Table, terms: list[str]) -> str | None:
    """Add a column with the sum of the terms; return None if they are not logged together."""
    parts = [table.columns[name] for name in terms]
    rows = sorted(set().union(*(part.rows for part in parts)))
    values = list(zip(*(part.at(rows) for part in parts), strict=True))
    if sum(None not in cells for cells in values) < _TOGETHER * len(rows):
        return None
    name = " + ".join(terms)
    total = table.columns[name] = Column(name)
    for row, cells in zip(rows, values, strict=True):
        if None not in cells:
            total.rows.append(row)
            total.values.append(sum(cells))
    return name


def check_texts(table: Table, roles: Roles, step: str | None, notes: list[str]) -> None:
    """Note texts in the columns that are used. Raises LogError for a text in the loss."""
    for name, column in table.columns.items():
        if not column.texts:
            continue
        row, text = column.text
        line = table.lines[row]
        if name == roles.loss:
            more = f" (and {count(column.texts - 1, 'more value')})" if column.texts > 1 else ""
            raise LogError("not-a-number", f"{table.unit} {line}: {name!r} is {text[:40]!r}, not a number{more}")
        if name in (step, roles.lr, roles.grad_norm, roles.probe, *roles.terms) and column.rows:
            what = "that is not a number" if column.texts == 1 else "that are not numbers"
            first = f"first: {table.unit} {line} has {text[:40]!r}"
            notes.append(f"skipped {count(column.texts, 'value')} of {name!r} {what} ({first})")


def drop_summaries(table: Table, roles: Roles, notes: list[str]) -> None:
    """Remove the losses of lines that are a mean or a summary, if the log has losses of other lines.

    These call themselves so, or are rare lines in between that lack a step or a count which the others have.
    """
    column = table.columns[roles.loss]
    dropped = {row for row in column.rows if table.flags[row] & SUMMARY} | _rare_rows(table, column)
    summaries = sorted(dropped)
    if not summaries or len(summaries) * 2 > len(column.rows):
        return
    _keep(column, [row not in dropped for row in column.rows])
    first = f"first: {table.unit} {table.lines[summaries[0]]}"
    notes.append(f"skipped {count(len(summaries), table.noun)} with the mean of several steps ({first})")


def _rare_rows(table: Table, column: Column) -> set[int]:
    """Return single rows of a rare form between those of the usual one, without a counter that it has."""
    counts = Counter(table.shapes[row] for row in column.rows)
    if not 1 < len(counts) <= _FORMS:
        return set()
    usual, often = counts.most_common(1)[0]
    counters = {shape: set(columns.step_columns(table.names_of(shape))) for shape in counts}
    rare = {
        shape for shape, amount in counts.items() if amount <= _RARE_FORM * often and counters[usual] - counters[shape]
    }
    shapes = [usual, *(table.shapes[row] for row in column.rows), usual]
    return {
        row
        for row, before, own, after in zip(column.rows, shapes, shapes[1:], shapes[2:], strict=False)
        if own in rare and before == usual == after
    }


def drop_carried(table: Table, roles: Roles, notes: list[str]) -> None:
    """Remove losses that a table of evaluations repeats until the next one is logged, as in model cards.

    Only where a loss on held-out data is in the same rows and moves on meanwhile.
    """
    column = table.columns[roles.loss]
    repeats = [b == a for a, b in pairwise(column.values)]
    if sum(repeats) < _CARRIED * len(column.values) or len(set(column.values)) < _MIN_LEVELS:
        return
    held_out = [one for name, one in table.columns.items() if columns.is_held_out_loss(name) and one.rows]
    for other in held_out:
        values = other.at(column.rows)
        moved = [a is not None and b is not None and a != b for a, b in pairwise(values)]
        if sum(moves for moves, repeated in zip(moved, repeats, strict=True) if repeated) * 2 > sum(repeats):
            _keep(column, [True, *(not repeated for repeated in repeats)])
            notes.append(f"skipped {count(sum(repeats), table.noun)} that only repeat the loss of the one before")
            return


def _keep(column: Column, keep: Sequence[bool]) -> None:
    column.values = array("d", (value for value, kept in zip(column.values, keep, strict=True) if kept))
    column.rows = array("L", (row for row, kept in zip(column.rows, keep, strict=True) if kept))


def mark_nan_blanks(table: Table, roles: Roles, notes: list[str]) -> None:
    """Write NaN into loss cells that are blank or null because the loss was NaN.

    JSON has no NaN, and pandas writes NaN as a blank; but a sparse log has blank cells, too. A blank can be NaN only in
    a row that has the other columns of a row with a loss. It is NaN if two or more of them end the log, more than three
    times as many as the longest earlier series. A null is also NaN if such rows are rare.
    """
    column = table.columns[roles.loss]
    if not column.blanks or not column.rows:
        return
    masks = _filled(table, ignored={roles.loss, roles.grad_norm or ""})
    shapes = {masks[row] for row in column.rows}
    like = sorted(
        [(row, False) for row in column.rows] + [(row, True) for row in column.blanks if masks[row] in shapes]
    )
    runs = [(blank, [row for row, _ in run]) for blank, run in groupby(like, key=lambda entry: entry[1])]
    tail = runs.pop()[1] if runs[-1][0] else []
    inner = [row for blank, run in runs if blank for row in run]
    rare = len(inner) <= _RARE * (len(like) - len(inner) - len(tail))
    ends = len(tail) >= 2 and len(tail) > 3 * max((len(run) for blank, run in runs if blank), default=0)
    nans = [row for row in inner + tail if rare and row in column.nulls]
    if ends:
        nans = [row for row in nans if row < tail[0]] + tail
    if nans:
        is_null = nans[0] in column.nulls
        _insert_nans(column, nans)
        are = "is" if len(nans) == 1 else "are"
        first = f"first: {table.unit} {table.lines[nans[0]]}"
        kind = "null" if is_null else "blank"
        notes.append(f"{count(len(nans), 'value')} of the loss {are} {kind} and read as NaN ({first})")
    elif rare and (inner or tail):
        first = f"first: {table.unit} {table.lines[(inner + tail)[0]]}"
        notes.append(f"skipped {count(len(inner) + len(tail), table.noun)} without a loss ({first})")


def _filled(table: Table, ignored: set[str]) -> list[int]:
    """Return for each row the set of columns with a number, as the bits of an integer."""
    masks = [0] * len(table)
    for at, (name, column) in enumerate(table.columns.items()):
        if name not in ignored:
            for row in column.rows:
                masks[row] |= 1 << at
    return masks


def _insert_nans(column: Column, rows: Sequence[int]) -> None:
    merged = sorted(
        [*zip(column.rows, column.values, strict=True), *((row, math.nan) for row in rows)], key=lambda c: c[0]
    )
    column.rows = array("L", (row for row, _ in merged))
    column.values = array("d", (value for _, value in merged))


def step_candidates(table: Table, loss_rows: Sequence[int]) -> list[str]:
    """Return the columns that could be the step of the rows with a loss: whole numbers of 0 or more in most of them."""
    found = []
    for name in columns.step_columns([name for name, column in table.columns.items() if column.rows]):
        values = [value for value in table.columns[name].at(loss_rows) if value is not None]
        if len(values) > _MANY_LOSSES and min(values) == max(values):
            continue
        if values and len(values) >= _MOST * len(loss_rows) and _are_steps(values):
            found.append(name)
    return found


def _are_steps(values: Sequence[float]) -> bool:
    return all(value.is_integer() and 0 <= value < MAX_STEP for value in values)


def first_row_after(column: Column, row: int) -> int:
    """Return the position of the column's first value at or after a row."""
    return bisect_left(column.rows, row)
