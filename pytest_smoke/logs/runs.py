"""Several runs or ranks in one log: told apart and read one by one, or refused; never mixed."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pytest_smoke.errors import LogError
from pytest_smoke.logs import columns
from pytest_smoke.logs.log import ColumnNames, Log, NonFinite, Points
from pytest_smoke.logs.points import log_of
from pytest_smoke.logs.roles import Roles, choose_roles, drop_carried, drop_summaries, mark_nan_blanks, step_candidates
from pytest_smoke.logs.shapes import LEADING
from pytest_smoke.logs.table import Table
from pytest_smoke.text import count

_LABELLED = 0.9
"""Share of the rows with a loss that a column must label to tell their runs apart."""
_ORDERED = 0.5
"""Runs are apart if at most this share of the steps that go back or stand still does so within one run."""
_ECHOES = 0.9
"""Share of the rows with a loss that must be pairs of the same loss for one of each pair to be an echo."""
_FORMS = 20
"""Forms of records with a loss up to which a change of form means another run; in prose, every line has its own."""
_UNIQUE = 0.9
_RUN_WORDS = {
    *("state", "status", "sweep", "created", "runtime", "user", "tags", "hostname", "name", "notes", "duration"),
    *("run", "trial", "datetime", "params"),
}
"""Words of the columns of a table with one row per run."""
_SKIPPABLE = 16
"""A loss scaler for fp16 skips this many steps in a row at most; more non-finite gradient norms decide."""
_UNDECIDED = ("no-loss-column", "steps-unordered", "steps-repeated", "no-points")
"""Reasons for which no curve can be judged, but a NaN in any candidate still decides."""


def logs_of(path: str, table: Table, names: ColumnNames) -> list[Log]:
    """Return the log of each run in a table, most often one. Raises LogError."""
    notes = list(table.notes)
    _refuse_table_of_runs(table)
    try:
        return _logs(path, table, names, notes)
    except LogError as error:
        found = non_finite(table, None, ()) if error.reason in _UNDECIDED else None
        if found is None:
            raise
        notes = [*notes, str(error)]
        return [
            Log(path=path, points=Points((), ()), loss_column="", notes=tuple(notes), non_finite=found, table=table)
        ]


def _logs(path: str, table: Table, names: ColumnNames, notes: list[str]) -> list[Log]:
    if (start := _other_run(table)) is not None:
        line = table.lines[start]
        notes.append(
            f"the log contains several runs with different columns: the last one is judged, from {table.unit} {line} on"
        )
        return _logs(path, table.select(range(start, len(table))), names, notes)
    roles = choose_roles(table, names, notes)
    _merge_echoes(table, roles, notes)
    drop_summaries(table, roles, notes)
    drop_carried(table, roles, notes)
    parts = _parts(table, roles, names, notes)
    logs = []
    for part in parts:
        own: list[str] = []
        mark_nan_blanks(part.table, roles, own)
        part_roles = _present(part.table, roles)
        log = log_of(path, part.table, part_roles, names, [*notes, *own], part.label)
        found = non_finite(part.table, part_roles, log.row_steps)
        if found is None and part.others is not None:
            found = non_finite(part.others, None, ())
        logs.append(replace(log, non_finite=found) if found else log)
    return logs


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One run of a log."""

    table: Table
    label: str = ""
    others: Table | None = None
    """The other ranks of the run: only a NaN in them counts."""


def _present(table: Table, roles: Roles) -> Roles:
    """Leave out the roles whose columns have no number in this part of the log."""

    def kept(name: str | None) -> str | None:
        return name if name and table.columns[name].rows else None

    terms = [name for name in roles.terms if kept(name)]
    return replace(
        roles,
        lr=kept(roles.lr),
        grad_norm=kept(roles.grad_norm),
        probe=kept(roles.probe),
        epoch=kept(roles.epoch),
        terms=terms,
    )


def _refuse_table_of_runs(table: Table) -> None:
    """Refuse a table with one row per run: a text differs in every row, and the steps do not rise."""
    if len(table) < 2:
        return
    unique = [
        name
        for name, column in table.columns.items()
        if column.labels is not None
        and column.texts >= _UNIQUE * len(table)
        and len(column.labels) >= _UNIQUE * column.texts
        and columns.words(name) & _RUN_WORDS
    ]
    known = [name for name in table.columns if columns.words(name) & _RUN_WORDS]
    if not unique or len(known) < 2:
        return
    steps = [column for name in columns.step_columns(table.columns) if (column := table.columns[name]).rows]
    if any(all(a < b for a, b in pairwise(column.values)) and len(column.rows) > 1 for column in steps):
        return
    text = (
        f"each row is one run ({unique[0]!r} differs in every row, and no step rises): this is a table of runs; export "
        "the history of one run"
    )
    raise LogError("table-of-runs", text)


def _other_run(table: Table) -> int | None:
    """Return the row at which a step starts again from its beginning, in records that all have another form."""
    loss_rows = sorted({row for name in columns.losses(table.columns) for row in table.columns[name].rows})
    if not 2 <= len({table.shapes[row] for row in loss_rows}) <= _FORMS:
        return None
    for name in columns.step_columns([name for name, column in table.columns.items() if column.rows]):
        column = table.columns[name]
        lowest = column.values[0]
        for at in range(1, len(column.rows)):
            if not column.values[at] <= lowest < column.values[at - 1]:
                continue
            row = column.rows[at]
            split = bisect_left(loss_rows, row)
            before, after = ({table.shapes[one] for one in part} for part in (loss_rows[:split], loss_rows[split:]))
            if before and after and not before & after:
                return row
    return None


def _merge_echoes(table: Table, roles: Roles, notes: list[str]) -> None:
    """Merge records that are printed twice in two forms, as by a callback and by the trainer."""
    loss = table.columns[roles.loss]
    rows, values, shapes = loss.rows, loss.values, table.shapes
    if len({shapes[row] for row in rows}) < 2:
        return
    epochs = table.columns[roles.epoch].at(rows) if roles.epoch else [None] * len(rows)
    pairs, at = [], 0
    while at + 1 < len(rows):
        a, b = at, at + 1
        same = math.isclose(values[a], values[b], rel_tol=1e-3, abs_tol=1e-4) or (
            values[a] != values[a] and values[b] != values[b]
        )
        same_epoch = epochs[a] is None or epochs[b] is None or math.isclose(epochs[a], epochs[b], abs_tol=0.01)  # type: ignore[arg-type]  # neither is None
        if shapes[rows[a]] != shapes[rows[b]] and same and same_epoch:
            pairs.append((a, b))
            at += 1
        at += 1
    if len(pairs) < 2 or 2 * len(pairs) < _ECHOES * len(rows):
        return
    forms = {frozenset((shapes[rows[a]], shapes[rows[b]])) for a, b in pairs}
    if len(forms) > 1:
        return
    cells = {
        shape: sum(shapes[row] == shape for column in table.columns.values() for row in column.rows)
        for shape in next(iter(forms))
    }
    fullest = max(cells, key=cells.__getitem__)
    moves = {}
    for a, b in pairs:
        kept, dropped = (a, b) if shapes[rows[a]] == fullest else (b, a)
        moves[rows[dropped]] = rows[kept]
    for column in table.columns.values():
        own = dict(zip(column.rows, column.values, strict=True))
        moved = {moves[row]: value for row, value in own.items() if row in moves}
        if moved:
            merged = sorted({**moved, **{row: value for row, value in own.items() if row not in moves}}.items())
            column.rows, column.values = column.rows[:0], column.values[:0]
            column.rows.extend(row for row, _ in merged)
            column.values.extend(value for _, value in merged)
    notes.append(f"{count(len(pairs), table.noun)} repeat a neighbouring line in another format: merged")


def _parts(table: Table, roles: Roles, names: ColumnNames, notes: list[str]) -> list[_Part]:
    """Return the runs of a log with their labels; ranks are reduced to the first one."""
    loss = table.columns[roles.loss]
    order = names.step or next(iter(step_candidates(table, loss.rows)), None) or roles.epoch
    for name, labels in _label_columns(table, loss.rows):
        keys = table.columns[order].at(loss.rows) if order and order in table.columns else [None] * len(labels)
        groups = dict.fromkeys(label for label in labels if label is not None)
        if table.run_column != name and not _tells_apart(labels, keys, loss.values):
            continue
        rows_by_label = _rows_by_label(table, name)
        if table.run_column != name and (name == LEADING or columns.run_label_rank(name) == 0):
            first = min(groups, key=_label_order)
            notes.append(
                f"the log has lines of {len(groups)} ranks (column {name!r}): the loss of {name} {first} is judged, "
                "and a NaN in any rank"
            )
            rest = sorted({row for label, rows in rows_by_label.items() if label != first for row in rows})
            return [_Part(table=table.select(rows_by_label[first]), others=table.select(rest))]
        notes.append(f"the log holds {len(groups)} runs, told apart by column {name!r}: each is judged")
        return [_Part(table=table.select(rows_by_label[label]), label=f"{name} {label}".strip()) for label in groups]
    return [_Part(table=table)]


def _label_columns(table: Table, rows: Sequence[int]) -> Iterator[tuple[str, list[str | None]]]:
    """Return the columns that could name the run or rank of each row with a loss, and their labels."""
    ranked = []
    for name, column in table.columns.items():
        rank = -1 if name == table.run_column else 0 if name == LEADING else columns.run_label_rank(name)
        if rank is None:
            continue
        labels = _labels(table, name)
        own = [labels.get(row) for row in rows]
        present = [label for label in own if label is not None]
        distinct = len(set(present))
        if (
            len(present) >= _LABELLED * len(rows)
            and distinct >= 2
            and (rank < 0 or distinct * 2 <= len(present))
            and column
        ):
            ranked.append((rank, name, own))
    for _, name, own in sorted(ranked, key=lambda entry: entry[0]):
        yield name, own


def _labels(table: Table, name: str) -> dict[int, str]:
    column = table.columns[name]
    found = {row: f"{value:g}" for row, value in zip(column.rows, column.values, strict=True)}
    if column.labels is not None:
        names = list(column.labels)
        found.update({row: names[code] for row, code in zip(column.text_rows, column.text_codes, strict=True)})
    return found


def _rows_by_label(table: Table, name: str) -> dict[str, list[int]]:
    """Return the rows of each label; rows without one belong to every run."""
    labels = _labels(table, name)
    groups: dict[str, list[int]] = {label: [] for label in dict.fromkeys(labels.values())}
    for row in range(len(table)):
        own = labels.get(row)
        for label in groups if own is None else (own,):
            groups[label].append(row)
    return groups


def _tells_apart(labels: Sequence[str | None], keys: Sequence[float | None], losses: Sequence[float]) -> bool:
    """Whether the steps rise within the labels where they do not in the whole log."""
    last: dict[str | None, float] = {}
    previous: float | None = None
    total = within = changes = 0
    for at, (label, key) in enumerate(zip(labels, keys, strict=True)):
        changes += at > 0 and label != labels[at - 1]
        if key is None:
            continue
        total += previous is not None and key <= previous
        within += label in last and key <= last[label]
        previous = last[label] = key
    if previous is None:  # no order at all: lines of several labels that alternate
        return changes >= len(set(labels))
    return total > 0 and within <= _ORDERED * total


def _label_order(label: str) -> tuple[int, float, str]:
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label


def non_finite(table: Table, roles: Roles | None, row_steps: Sequence[int]) -> NonFinite | None:
    """Return the first NaN or infinity in a candidate for the loss, or what the trainer says in words.

    Without roles, because no loss could be chosen, the gradient norm counts as well, unless it is finite again after a
    few steps: a loss scaler for fp16 skips those.
    """
    found: list[tuple[int, NonFinite]] = []
    for name, column in table.columns.items():
        if not columns.is_component(name):
            continue
        is_loss = roles is not None and name == roles.loss
        row = next(
            (
                row
                for row, value in zip(column.rows, column.values, strict=True)
                if value - value != 0.0 and not (is_loss and row_steps[row] >= 0)
            ),
            None,
        )
        if row is not None:
            found.append((row, _of_cell(table, name, row, row_steps)))
    norm = columns.grad_norm_column({name: len(column.rows) for name, column in table.columns.items() if column.rows})
    if roles is None and norm is not None and (row := _lasting(table, norm)) is not None:
        found.append((row, _of_cell(table, norm, row, row_steps)))
    if table.statements:
        line, text = table.statements[0]
        row = table.row_of_line(line)
        step = _step_before(row_steps, row)
        after = f" after step {step}" if step is not None else ""
        short = text if len(text) <= 160 else f"{text[:160]}..."
        said = f"the trainer reported a failure at {table.unit} {line}{after}: {short!r}"
        found.append((row, NonFinite(step=step, series="loss", text=said)))
    return min(found, key=lambda entry: entry[0])[1] if found else None


def _of_cell(table: Table, name: str, row: int, row_steps: Sequence[int]) -> NonFinite:
    column = table.columns[name]
    value = column.at([row])[0]
    step = (
        row_steps[row]
        if row_steps and row_steps[row] >= 0
        else _step_before(row_steps, row)
        if row_steps
        else _own_step(table, row)
    )
    where = f"step {step}" if step is not None else f"{table.unit} {table.lines[row]}"
    shown = "NaN" if value != value else f"{value:g}"
    return NonFinite(step=step, series=name, text=f"{name} is {shown} at {where}")


def _own_step(table: Table, row: int) -> int | None:
    for name in columns.step_columns([name for name, column in table.columns.items() if column.rows]):
        value = table.columns[name].at([row])[0]
        if value is not None and value.is_integer() and value >= 0:
            return int(value)
    return None


def _lasting(table: Table, name: str) -> int | None:
    """Return the row of the first non-finite gradient norm of a series that lasts, or that ends the log."""
    column = table.columns[name]
    start, length = None, 0
    for row, value in zip(column.rows, column.values, strict=True):
        if value - value == 0.0:
            start, length = None, 0
            continue
        start, length = (row if start is None else start), length + 1
        if length > _SKIPPABLE:
            return start
    return start


def _step_before(row_steps: Sequence[int], row: int) -> int | None:
    for at in range(min(row, len(row_steps)) - 1, -1, -1):
        if row_steps[at] >= 0:
            return row_steps[at]
    return None
