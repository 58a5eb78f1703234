"""The cells of a log as numbers, its columns, and which blanks are a NaN."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from pytest_smoke.errors import LogError
from pytest_smoke.logs import columns
from pytest_smoke.logs.log import Cell, Names, Table

_TENSOR = re.compile(r"tensor\(\s*([^,()\s]+)\s*[,)]")
_BLANK = {"", "none", "null", "n/a", "na", "-", "--"}
_RARE = 0.1
"""Nulls up to this share of the losses are NaNs; more of them mean that the loss is logged now and then."""

_SUMMARY = ("train_runtime", "train_samples_per_second")
"""Hugging Face closes a log with a record that has these; its `train_loss` is the mean of the run."""


def number(cell: Cell) -> float | None:
    """The number in a cell, None for a blank or null. Raises `ValueError` for any other text."""
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
class Numbers:
    """The log with its cells read."""

    rows: list[tuple[int, dict[str, float | None]]]
    """Line, and the cells that hold a number or are blank."""
    nulls: set[tuple[int, str]]
    """Line and column of the explicit nulls."""
    counts: Counter[str]
    """Numbers by column, for the columns that have any."""
    texts: dict[str, tuple[int, str, int]]
    """Columns that hold other text: its first line, that text, how often."""


def read_numbers(table: Table) -> Numbers:
    """The numbers in the records."""
    rows: list[tuple[int, dict[str, float | None]]] = []
    nulls: set[tuple[int, str]] = set()
    counts: Counter[str] = Counter()
    texts: dict[str, tuple[int, str, int]] = {}
    for line, cells in table.rows:
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
    return Numbers(rows=rows, nulls=nulls, counts=counts, texts=texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column is what; None where the log has none."""

    loss: str
    lr: str | None
    step: str | None
    epoch: str | None
    grad_norm: str | None
    probe: str | None
    terms: list[str]


def choose(numbers: Numbers, names: Names, notes: list[str]) -> Columns:
    """The columns that were named or that are recognised. Raises `LogError`."""
    counts = numbers.counts
    known = list(dict.fromkeys([*counts, *numbers.texts]))
    if names.loss is not None:
        loss = columns.named(names.loss, "--loss", known)
    else:
        try:
            loss, more = columns.loss_column(counts)
        except LogError:
            loss, more = columns.loss_column(dict.fromkeys(known, 1))  # there, but with text for numbers: said below
        notes += more
    if names.lr is not None:
        lr: str | None = columns.named(names.lr, "--lr", known)
    else:
        lr, more = columns.lr_column(counts)
        notes += more
    with_loss = [row for _, row in numbers.rows if loss in row]
    filled = Counter(name for row in with_loss for name, value in row.items() if value is not None)
    fractions = {
        name for row in with_loss for name, value in row.items() if value is not None and not value.is_integer()
    }
    whole = {name: count for name, count in filled.items() if name not in fractions}
    step = columns.named(names.step, "--step", known) if names.step is not None else columns.step_column(whole)
    grad_norm, probe = columns.grad_norm_column(counts), columns.probe_column(counts)
    taken = {loss, lr, step, grad_norm, probe}
    return Columns(
        loss=loss,
        lr=lr,
        step=step,
        epoch=columns.epoch_column(filled),
        grad_norm=grad_norm,
        probe=probe,
        terms=[name for name in counts if name not in taken and columns.is_component(name)],
    )


def complain_of_texts(numbers: Numbers, chosen: Columns, unit: str, notes: list[str]) -> None:
    """Note the texts in columns that are read; in the loss itself, raise `LogError`."""
    for name, (line, text, often) in numbers.texts.items():
        where = f"{unit} {line}: {name!r} is {text[:40]!r}, not a number"
        if name == chosen.loss:
            raise LogError("not-a-number", f"{where}" + (f" (and {often - 1} more such cells)" if often > 1 else ""))
        if name in (chosen.step, chosen.lr, chosen.grad_norm, chosen.probe, *chosen.terms) and numbers.counts[name]:
            notes.append(f"{where}; {often} such cells were left out")


def settle_blanks(numbers: Numbers, chosen: Columns, unit: str, notes: list[str]) -> None:
    """Write NaN into the loss cells whose blank or null stands for one.

    JSON has no NaN, and pandas writes one as nothing; but a sparse log leaves cells blank too. A blank can only be a
    NaN in a row that otherwise has the columns of a row with a loss. It is one where two or more of them, and more
    than three times as many as ever before, end the log. A null is one too where such rows are rare.
    """
    if all(row[chosen.loss] is not None for _, row in numbers.rows if chosen.loss in row):
        return
    vague = {chosen.loss, chosen.grad_norm}

    def shape(row: Mapping[str, float | None]) -> frozenset[str]:
        return frozenset(name for name, value in row.items() if value is not None and name not in vague)

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
        notes.append(f"{unit} {line}: the loss is {kind} where others have one; {len(nans)} such cells read as NaN")
    elif rare and (inner or tail):
        first = (inner + tail)[0][0]
        notes.append(f"{len(inner) + len(tail)} records have no loss (first: {unit} {first}) and were left out")
