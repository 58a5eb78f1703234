"""Turn the records of one run into points: steps, restarts, repeats, gaps. Every decision leaves a note."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import cast

from pytest_smoke.errors import LogError
from pytest_smoke.logs import columns
from pytest_smoke.logs.log import ColumnNames, Log, Points, Series
from pytest_smoke.logs.roles import MAX_STEP, Roles, check_texts, known_names, step_candidates
from pytest_smoke.logs.shapes import COUNT, LEADING
from pytest_smoke.logs.table import BAR, Column, Table
from pytest_smoke.text import count

_RESTARTS_SHOWN = 3
_MIXED = 0.05
"""Share of backward steps from which a log is a mixture of runs or ranks, and not one resumed run."""
_FRESH = 0.5
"""A column of the lines between the losses belongs to them if it is new before more than this share of them."""
_GOES_ON = 0.5
"""Steps that restart belong to one run if its loss is this much closer to where it was than to where it began."""
_MANY = 3
"""Restarts and repeated steps up to this number are repaired however short the log is."""


def log_of(path: str, table: Table, roles: Roles, names: ColumnNames, notes: list[str], run: str = "") -> Log:
    """Return the log of one run. Raises LogError."""
    notes = [*notes]
    steps = _Steps(table, roles, names, notes)
    check_texts(table, roles, steps.column, notes)
    sequence = _Sequence(table, roles, steps)
    if not sequence.rows:
        raise LogError("no-points", f"column {roles.loss!r} has no number at any step")
    notes += sequence.notes()
    points = sequence.points()
    notes += _gaps(points.steps)
    known = {roles.loss, roles.lr, steps.column, roles.epoch, roles.grad_norm, roles.probe, *roles.terms}
    notes += _other_nans(table, roles)
    return Log(
        path=path,
        points=points,
        loss_column=roles.loss,
        lr_column=roles.lr,
        step_column=steps.column,
        known_columns=frozenset(name for name in known if name),
        notes=tuple(notes),
        run=run,
        table=table,
        row_steps=steps.of_rows,
    )


class _Steps:
    """The step of every row, chosen among the columns, the epochs and the order of the rows."""

    def __init__(self, table: Table, roles: Roles, names: ColumnNames, notes: list[str]) -> None:
        self._table, self._roles, self._notes = table, roles, notes
        self._loss = table.columns[roles.loss]
        self.column: str | None = None
        """The column of the step, if any."""
        self.of_rows = array("q", [-1]) * len(table)
        """Step of each row; -1 for a row without one."""
        self.key = array("d")
        """What orders the rows with a loss if they are only numbered: their epochs; empty if there are none."""
        if names.step is not None:
            self.column = columns.named_column(names.step, "--step", known_names(table))
            self._by_column(self.column)
        elif candidates := step_candidates(table, self._loss.rows):
            self.column = self._best(candidates)
            if self.column in (COUNT, LEADING):
                notes.append("the steps are the numbers without a name in each line; --step NAME selects a column")
            if self.column is not None:
                self._by_column(self.column)
            else:
                self._number()
        elif (header := self._header_column()) is not None:
            self.column = header
            notes.append(f"the steps are those of column {header!r} in the lines before each loss")
            self._by_column(header, carry=True)
        elif not self._by_epochs():
            self._note_unusable()
            notes.append("there is no step column: points are numbered from 0 in file order; --step NAME selects one")
            self._number()

    def _number(self) -> None:
        for at, row in enumerate(self._loss.rows):
            self.of_rows[row] = at

    def _note_unusable(self) -> None:
        """Say why a column that is called a step is not used as one."""
        for name in columns.step_columns([name for name, column in self._table.columns.items() if column.rows]):
            values = [value for value in self._table.columns[name].at(self._loss.rows) if value is not None]
            bad = next((value for value in values if not value.is_integer() or not 0 <= value < MAX_STEP), None)
            if bad is not None:
                self._notes.append(f"column {name!r} is not used as the step, because it holds {bad:g}")

    def _best(self, candidates: list[str]) -> str | None:
        """Return the first candidate, or one that rises at every loss where the first repeats itself or is missing.

        None if the points are to be numbered.
        """
        first, rows = candidates[0], self._loss.rows
        values = self._table.columns[first].at(rows)
        missing = values.count(None)
        losses = self._loss.values
        repeats = sum(
            a is not None and a == b and not _same(*pair)
            for (a, b), pair in zip(pairwise(values), pairwise(losses), strict=True)
        )
        if not missing and not repeats:
            return first
        for name in candidates[1:]:
            others = self._table.columns[name].at(rows)
            if None in others:
                continue
            backward = sum(a >= b for a, b in pairwise(cast(list[float], others)))
            if not backward or (missing and not repeats and backward <= max(_MANY, _MIXED * len(rows))):
                why = (
                    f"several losses have the same {first!r}, as micro-batches of one step have"
                    if repeats
                    else f"{count(missing, self._table.noun)} with a loss lack{'s' if missing == 1 else ''} {first!r}"
                )
                self._notes.append(f"the step is column {name!r}: {why}")
                return name
        micro = self._micro_column(values, candidates) if repeats and not missing else None
        if micro is None:
            return first
        self._notes.append(
            f"several losses have the same {first!r} and count {micro!r}, as micro-batches of one step do: points are "
            "numbered in file order"
        )
        return None

    def _micro_column(self, steps: Sequence[float | None], candidates: Sequence[str]) -> str | None:
        """Return a column that counts within each step."""
        rows = self._loss.rows
        for name, column in self._table.columns.items():
            if name not in (candidates[0], LEADING) and (name in candidates or columns.is_micro(name)):
                counts = column.at(rows)
                if None not in counts and _rises_within(cast(list[float], steps), cast(list[float], counts)):
                    return name
        return None

    def _header_column(self) -> str | None:
        """Return the step column of the lines before each loss, as in blocks that begin with `[step=1/739328]`."""
        rows = self._loss.rows
        for name in columns.step_columns([name for name, column in self._table.columns.items() if column.rows]):
            column = self._table.columns[name]
            found = [value for value in column.before(rows) if value is not None]
            fresh = len({row for row, _ in found})
            if (
                fresh > _FRESH * len(rows)
                and (len(rows) < _MANY or len({value for _, value in found}) > 1)
                and all(value.is_integer() and 0 <= value < MAX_STEP for _, value in found)
                and _rises([value for _, value in found], strictly=False)
            ):
                return name
        return None

    def _by_epochs(self) -> bool:
        """Use rising whole epochs as steps, of the rows with a loss or of the lines before them."""
        name = self._roles.epoch
        if name is None:
            return False
        rows, column = self._loss.rows, self._table.columns[name]
        values: Sequence[float | None] = column.at(rows)
        if None in values:
            values = [found[1] if found else None for found in column.before(rows)]
        epochs = [value for value in values if value is not None]
        if len(epochs) != len(rows):
            return False
        is_bar = all(self._table.flags[row] & BAR for row in rows)
        if all(value.is_integer() and 0 <= value < MAX_STEP for value in epochs) and _rises(
            epochs, strictly=not is_bar
        ):
            self._notes.append(f"there is no step column: the steps are the epochs in column {name!r}")
            for row, value in zip(rows, epochs, strict=True):
                self.of_rows[row] = int(value)
            return True
        self.key = array("d", epochs)
        return False

    def _by_column(self, name: str, *, carry: bool = False) -> None:
        """Take the steps from a column; count them across epochs in each of which they start again."""
        table, column, of_rows = self._table, self._table.columns[name], self.of_rows
        losses = self._loss.rows
        epochs = self._epochs(column.rows)
        has_loss = _membership(losses, len(table))
        offset, counted, offsets = 0, 1, dict[float, int]()
        last: tuple[float, float] | None = None
        top = -1
        for at, row, epoch in zip(column.values, column.rows, epochs, strict=True):
            if not (at.is_integer() and 0 <= at < MAX_STEP):
                if not has_loss[row]:
                    continue
                self._refuse(row, name, at)
            if (has_loss[row] or carry) and epoch is not None:
                if last is not None and epoch != last[1]:
                    if epoch in offsets:
                        offset = offsets[epoch]
                    elif epoch > last[1] and (at < last[0] or (at == last[0] and epoch.is_integer())):
                        offset, counted = top + 1 - int(at), counted + 1
                if epoch.is_integer():
                    offsets.setdefault(epoch, offset)
                last = (at, epoch)
            step = offset + int(at)
            if step >= MAX_STEP:
                self._refuse(row, name, at)
            top = max(top, step) if has_loss[row] or carry else top
            of_rows[row] = step
        if counted > 1:
            self._notes.append(
                f"{name!r} starts again in each epoch ({self._roles.epoch!r}): the steps of "
                f"{count(counted, 'epoch')} are numbered continuously"
            )
        if carry:
            step = -1
            for row in range(len(table)):
                step = of_rows[row] if of_rows[row] >= 0 else step
                of_rows[row] = step
        missing = sum(of_rows[row] < 0 for row in losses)
        if missing:
            self._notes.append(f"skipped {count(missing, table.noun)} with a loss but no {name!r}")

    def _refuse(self, row: int, name: str, at: float) -> None:
        if not at.is_integer():
            problem = f"{at:g}, not a whole number"
        else:
            problem = f"{at:g}, but a step is 0 or more" if at < 0 else f"{at:g}, which is too large for a step"
        place = f"{self._table.unit} {self._table.lines[row]}"
        raise LogError("bad-step", f"{place}: {name!r} is {problem}; select another column with --step NAME")

    def _epochs(self, rows: Sequence[int]) -> Sequence[float | None]:
        """Return the epoch of each row, that of an earlier line if the row has none."""
        if self._roles.epoch is None or self._roles.epoch == self.column:
            return [None] * len(rows)
        column = self._table.columns[self._roles.epoch]
        own = column.at(rows)
        if any(value is not None for value in own):
            return own
        return [found[1] if found else None for found in column.before(rows)]


def _rises(values: Sequence[float | None], *, strictly: bool = True) -> bool:
    present = [value for value in values if value is not None]
    return all(a < b if strictly else a <= b for a, b in pairwise(present))


def _rises_within(steps: Sequence[float], counts: Sequence[float]) -> bool:
    return all(a < b for a, b in pairwise(zip(steps, counts, strict=True)))


def _membership(rows: Sequence[int], length: int) -> bytearray:
    found = bytearray(length)
    for row in rows:
        found[row] = 1
    return found


@dataclass(slots=True, kw_only=True)
class _Repeats:
    """Where the steps of a log do not rise."""

    noun: str
    """What a record is called."""
    unit: str
    duplicates: int = 0
    first_duplicate: int = 0
    conflicts: int = 0
    """Duplicates with another loss that no progress bar explains."""
    restarts: list[tuple[str, str, int]] = field(default_factory=list)
    """Step or epoch before and after, and the number of dropped points."""
    runs: int = 1
    """Runs one after another in the log."""
    first_line: int = 0
    """Line at which the last of them begins."""
    passes: int = 1
    """Passes through the same steps that are one run."""

    def notes(self) -> Iterator[str]:
        if self.runs > 1:
            yield (
                f"the log holds {self.runs} runs, one after another: the last one is judged, "
                f"from {self.unit} {self.first_line} on"
            )
        if self.passes > 1:
            yield f"the steps restart {count(self.passes - 1, 'time')}, as in each epoch: they are counted on"
        if self.duplicates:
            if self.duplicates == 1:
                yield (
                    f"skipped 1 {self.noun}: a newer {self.noun} has the same step (first: step {self.first_duplicate})"
                )
            else:
                skipped = count(self.duplicates, self.noun)
                yield f"skipped {skipped}: newer {self.noun}s have the same steps (first: step {self.first_duplicate})"
        for before, back, dropped in self.restarts[:_RESTARTS_SHOWN]:
            place = back if " " in back else f"step {back}"
            yield (
                f"steps go back from {before} to {back}, as in a resumed run: "
                f"skipped {count(dropped, f'older {self.noun}')} from {place} on"
            )
        if len(self.restarts) > _RESTARTS_SHOWN:
            yield f"steps go back {len(self.restarts)} times in total; newer {self.noun}s replaced older ones each time"


class _Sequence:
    """The rows with a loss that become points: one per step, by rising step."""

    def __init__(self, table: Table, roles: Roles, steps: _Steps) -> None:
        self._table, self._roles, self._steps = table, roles, steps
        loss = table.columns[roles.loss]
        self.rows = array("L")
        self.steps = array("q")
        self._losses = array("d")
        self._repeats = _Repeats(noun=table.noun, unit=table.unit)
        self._total = 0
        of_rows = steps.of_rows
        rows, values, numbers = loss.rows, loss.values, array("q", (of_rows[row] for row in loss.rows))
        if steps.key:
            self._follow_epochs(rows, values, numbers)
        else:
            self._follow_steps(rows, values, self._counted_on(rows, values, numbers))
        self._refuse_mixtures()

    def _follow_steps(self, rows: Sequence[int], values: Sequence[float], numbers: Sequence[int]) -> None:
        table, repeats = self._table, self._repeats
        for row, value, step in zip(rows, values, numbers, strict=True):
            if step < 0:
                continue
            self._total += 1
            last = self.steps[-1] if self.steps else -1
            if step == last:
                repeats.first_duplicate = repeats.first_duplicate if repeats.duplicates else step
                repeats.duplicates += 1
                if not _same(value, self._losses[-1]) and not table.flags[row] & BAR:
                    repeats.conflicts += 1
                self.rows[-1], self._losses[-1] = row, value
                continue
            if step < last:
                self._go_back(row, step)
            self.rows.append(row)
            self.steps.append(step)
            self._losses.append(value)

    def _go_back(self, row: int, step: int) -> None:
        before, points = self.steps[-1], len(self.steps)
        kept = bisect_right(self.steps, step - 1)
        del self.rows[kept:], self.steps[kept:], self._losses[kept:]
        if not kept and points > 1:
            self._repeats.runs += 1
            self._repeats.first_line = self._table.lines[row]
            self._repeats.restarts.clear()
        else:
            self._repeats.restarts.append((str(before), str(step), points - kept))

    def _counted_on(self, rows: Sequence[int], values: Sequence[float], numbers: array[int]) -> Sequence[int]:
        """Continue the step count of a log whose steps restart in each epoch, if the loss continues too."""
        present = [at for at, step in enumerate(numbers) if step >= 0]
        starts = [present[0]] if present else []
        starts += [b for a, b in pairwise(present) if numbers[b] < numbers[a]]
        if len(starts) < 2 or self._table.starts or self._steps.column is None:
            return numbers
        parts = [slice(a, b) for a, b in pairwise([*starts, len(numbers)])]
        if len({numbers[part.start] for part in parts}) > 1 or any(part.stop - part.start < 3 for part in parts):
            return numbers
        if len({numbers[part.stop - 1] for part in parts[:-1]}) > 1 or len(parts) < 2:
            return numbers
        if max(numbers[parts[-1]]) > numbers[parts[0].stop - 1]:
            return numbers

        def level(part: slice, *, end: bool) -> float:
            size = min(3, max(1, (part.stop - part.start) // 4))
            return median(values[part][-size:] if end else values[part][:size])

        begin = level(parts[0], end=False)
        for a, b in pairwise(parts):
            start, end = level(b, end=False), level(a, end=True)
            if not abs(start - end) < _GOES_ON * abs(start - begin):
                return numbers
        self._repeats.passes = len(parts)
        counted, top = array("q", numbers), max(numbers[parts[0]])
        for part in parts[1:]:
            offset = top + 1 - numbers[part.start]
            for at in range(part.start, part.stop):
                counted[at] = numbers[at] + offset if numbers[at] >= 0 else -1
            top = max(counted[part])
        for row, step in zip(rows, counted, strict=True):
            self._steps.of_rows[row] = step
        return counted

    def _follow_epochs(self, rows: Sequence[int], values: Sequence[float], numbers: Sequence[int]) -> None:
        """Drop older rows where the epoch goes back: the run was resumed, or another one begins."""
        keys = array("d")
        starts = {row for row in self._table.starts if rows and rows[0] < row <= rows[-1]}
        next_start = min(starts, default=len(self._table))
        for row, value, key in zip(rows, values, self._steps.key, strict=True):
            self._total += 1
            is_start = row >= next_start
            if is_start:
                next_start = min((start for start in starts if start > row), default=len(self._table))
            if keys and (key < keys[-1] or (is_start and key <= keys[0])):
                kept = bisect_left(keys, key)
                dropped, before = len(keys) - kept, keys[-1]
                del self.rows[kept:], self._losses[kept:], keys[kept:]
                if kept:
                    self._repeats.restarts.append((f"epoch {before:g}", f"epoch {key:g}", dropped))
                else:
                    self._repeats.runs += 1
                    self._repeats.first_line = self._table.lines[row]
                    self._repeats.restarts.clear()
            self.rows.append(row)
            self._losses.append(value)
            keys.append(key)
        self.steps = array("q", range(len(self.rows)))
        of_rows = self._steps.of_rows
        for at in range(len(of_rows)):
            of_rows[at] = -1
        for step, row in enumerate(self.rows):
            of_rows[row] = step

    def _refuse_mixtures(self) -> None:
        repeats, limit = self._repeats, max(_MANY, _MIXED * self._total)
        if len(repeats.restarts) > limit:
            before, back, _ = repeats.restarts[0]
            raise LogError(
                "steps-unordered",
                f"steps go back {len(repeats.restarts)} times in {self._total} points, first from {before} to {back}: "
                "several runs or ranks share this log; split it, or select another column with --step NAME",
            )
        if repeats.conflicts > limit:
            raise LogError(
                "steps-repeated",
                f"{count(repeats.conflicts, 'step')} of {self._total:,} have several different losses, first step "
                f"{repeats.first_duplicate}: several ranks, runs or micro-batches share this log; split it, or select "
                "another column with --step NAME",
            )

    def notes(self) -> Iterator[str]:
        """Describe what was dropped."""
        return self._repeats.notes()

    def points(self) -> Points:
        """Return the points, with the last learning rate up to each step, also from records without a loss."""
        roles, columns_by_name = self._roles, self._table.columns
        return Points(
            self.steps,
            self._losses,
            lr=self._rates(),
            grad_norm=self._values(columns_by_name[roles.grad_norm]) if roles.grad_norm else None,
            probe_loss=self._values(columns_by_name[roles.probe]) if roles.probe else None,
            terms={name: self._values(columns_by_name[name]) or () for name in roles.terms},
        )

    def _values(self, column: Column) -> Sequence[float | None]:
        """Return the column's value at each point: of its own row, or of another row with the same step."""
        found = column.at(self.rows)
        if None not in found:
            return array("d", cast(list[float], found))
        own = _membership(self.rows, len(self._table))
        of_rows = self._steps.of_rows
        others = {
            of_rows[row]: value
            for row, value in zip(column.rows, column.values, strict=True)
            if not own[row] and of_rows[row] >= 0
        }
        if not others:
            return found
        return [others.get(step) if value is None else value for step, value in zip(self.steps, found, strict=True)]

    def _rates(self) -> Series:
        if self._roles.lr is None:
            return None
        column = self._table.columns[self._roles.lr]
        rates: list[float | None] = column.at(self.rows)
        own, of_rows = _membership(self.rows, len(self._table)), self._steps.of_rows
        others = [(row, value) for row, value in zip(column.rows, column.values, strict=True) if not own[row]]
        stepped = [(of_rows[row], value) for row, value in others if of_rows[row] >= 0]
        stepped.sort(key=lambda entry: entry[0])  # of rows with the same step, the newest stays last
        placed = [] if stepped else others
        at, last = 0, None
        for point, rate in enumerate(rates):
            entries, limit = (stepped, self.steps[point]) if stepped else (placed, self.rows[point])
            while at < len(entries) and entries[at][0] <= limit:
                last = entries[at][1]
                at += 1
            last = rate if rate is not None else last
            rates[point] = last if last is not None and math.isfinite(last) else None
        return rates if None in rates else array("d", cast(list[float], rates))


def _same(one: float, other: float) -> bool:
    """Whether two printed losses are the same number, perhaps with fewer digits."""
    return one == other or (one != one and other != other) or math.isclose(one, other, rel_tol=1e-3)


def _gaps(steps: Sequence[int]) -> Iterator[str]:
    """Note the widest gap between points, if it is five times the median step between points or more."""
    if len(steps) < 6:
        return
    strides = [b - a for a, b in pairwise(steps)]
    usual = median(strides)
    wide = [at for at, stride in enumerate(strides) if stride >= 5 * usual]
    if wide:
        at = max(wide, key=strides.__getitem__)
        more = f"; {count(len(wide) - 1, 'more gap')} in the log" if len(wide) > 1 else ""
        yield f"no points between steps {steps[at]} and {steps[at + 1]}, where the usual distance is {usual:g}{more}"


def _other_nans(table: Table, roles: Roles) -> Iterator[str]:
    """Note each numeric column that has NaN but does not affect the verdict."""
    for name, column in table.columns.items():
        if name in roles.judged or columns.is_component(name):
            continue
        row = next((row for row, value in zip(column.rows, column.values, strict=True) if value != value), None)
        if row is not None:
            line = table.lines[row]
            yield f"{name!r} has NaN (first: {table.unit} {line}); this column does not affect the verdict"
