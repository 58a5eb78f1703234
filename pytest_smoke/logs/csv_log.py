"""Delimited tables: with a header, dense or sparse (Lightning's `metrics.csv` has several rows per step, with blanks).

Also the exports of Weights & Biases and TensorBoard, long tables of names and values, columns of numbers under a
comment (`# step, loss_train`), and files with one number per line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, pairwise

from pytest_smoke.errors import LogError
from pytest_smoke.logs import columns
from pytest_smoke.logs.cells import Cell, is_number, number
from pytest_smoke.logs.line_log import labelled
from pytest_smoke.logs.table import Table
from pytest_smoke.text import count

_DELIMITERS = ",\t;|"
_BOUND = re.compile(r"(.+)__(MIN|MAX)")
"""Columns of a chart of Weights & Biases with the bounds of the runs or samples behind each value."""
_RUN_METRIC = re.compile(r"(.+) - ([^-]*\S)")
_NAME_COLUMNS = ({"tag"}, {"metric"}, {"key"}, {"variable"}, {"series"}, {"scalar"}, {"metric", "name"}, {"name"})
_MILLISECONDS = 1e11
"""A larger first number of a line is a time in milliseconds (MLflow: `1600000000000 0.5 1`)."""
_STEP_AND_VALUE = re.compile(r"(\d{1,15})(?::\s|:?\t|\s{1,20}\|?\s{0,20})([-+]?(?:\d+\.\d*(?:[eE][-+]?\d+)?|nan|inf))")
"""`200:	2.345`, as WaveGlow prints its losses."""
VALUE = "value"
"""Column of numbers without a name."""
RUN = "run"
"""Column with the name of the run, where a chart has several side by side."""


def delimiter_of(header: str) -> str | None:
    """Return the most frequent delimiter in a header; None if it has none."""
    best = max(_DELIMITERS, key=header.count)
    return best if best in header else None


def read_csv(lines: Iterable[str], *, tag: str = "") -> Table:
    """Read the rows below the header. `tag` names the only column of values. Raises LogError."""
    numbered = enumerate(lines, 1)
    comment = ""
    for line, header_text in numbered:  # noqa: B007  # the last values are used below
        if header_text.startswith("#"):
            comment = comment or header_text.lstrip("# ").strip()
        elif header_text.strip():
            break
    else:
        raise LogError("empty", "the log is empty")
    rest = (text for _, text in numbered)
    if (names := _commented_header(comment, header_text)) is not None:
        return read_numbers(chain([header_text], rest), names, first_line=line)
    delimiter = delimiter_of(header_text) or ","
    reader = csv.reader(chain([header_text], rest), delimiter=delimiter, skipinitialspace=True)
    header = [cell.strip() for cell in _next(reader, line)]
    if all(map(is_number, header)):
        if len(header) == 1:
            return read_numbers(chain([header_text], rest), [tag or VALUE], first_line=line)
        raise LogError("no-header", f"line {line} must name the columns, but holds numbers: {header_text.strip()[:60]}")
    return _Rows(reader, header, line - 1, decimal_comma=delimiter in ";\t").table(tag)


def _next(reader: Iterator[list[str]], line: int) -> list[str]:
    try:
        return next(reader)
    except csv.Error as error:
        raise LogError("unreadable", f"line {line}: {error}") from None


_AddRow = Callable[[int, list[str]], None]
"""Takes the line and the cells of a row."""


class _Rows:
    """Reads the rows of a table under a header."""

    def __init__(self, reader: Iterator[list[str]], header: list[str], skipped: int, *, decimal_comma: bool) -> None:
        self._reader, self._header, self._skipped = reader, header, skipped
        self._comma = decimal_comma
        self._table = Table(noun="row")
        self._malformed, self._first_malformed = 0, (0, 0)
        self._cut: tuple[int, int] | None = None

    def table(self, tag: str) -> Table:
        table, header = self._table, self._header
        add = self._adder(tag)
        repeated = 0
        for line, cells in self._cells():
            if cells == header or [cell.strip() for cell in cells] == header:
                repeated += 1
                table.starts.append(len(table))
            else:
                add(line, cells)
        self._note_malformed()
        if repeated:
            text = f"the header is repeated {count(repeated, 'time')} inside the log, as if runs were appended"
            table.notes.append(text)
        return table

    def _cells(self) -> Iterator[tuple[int, list[str]]]:
        """Return the rows with enough cells, and count the others."""
        width, pending = len(self._header), None
        reader = self._reader
        try:
            for cells in reader:
                if pending is not None:
                    self._add_malformed(*pending)
                    pending = None
                line = self._skipped + reader.line_num  # type: ignore[attr-defined]  # a reader of csv has it
                if len(cells) == width:
                    if any(cells) and any(cell.strip() for cell in cells):
                        yield line, cells
                elif not any(cell.strip() for cell in cells):
                    continue
                elif len(cells) < width or any(cell.strip() for cell in cells[width:]):
                    pending = (line, len(cells))
                else:
                    yield line, cells[:width]
        except csv.Error as error:
            line = self._skipped + reader.line_num  # type: ignore[attr-defined]  # a reader of csv has it
            raise LogError("unreadable", f"line {line}: {error}") from None
        if pending is not None:
            if pending[1] < width and len(self._table):
                line, found = pending
                self._table.notes.append(f"skipped the last row (line {line}): it ends after {found} of {width} cells")
            else:
                self._add_malformed(*pending)

    def _add_malformed(self, line: int, cells: int) -> None:
        self._first_malformed = self._first_malformed if self._malformed else (line, cells)
        self._malformed += 1

    def _note_malformed(self) -> None:
        table, header, malformed = self._table, self._header, self._malformed
        problem = ""
        if malformed:
            line, cells_found = self._first_malformed
            do_not = "does not" if malformed == 1 else "do not"
            problem = (
                f"{do_not} have {count(len(header), 'cell')} like the header (first: line {line} has {cells_found})"
            )
            table.notes.append(f"skipped {count(malformed, 'row')} that {problem}")
        if malformed >= len(table):
            if malformed:
                raise LogError("unreadable", f"the log cannot be read: {count(malformed, 'row')} {problem}")
            raise LogError("header-only", f"the log has a header ({', '.join(header)}), but no rows")

    def _adder(self, tag: str) -> _AddRow:
        header = self._header
        if (chart := _chart(header)) is not None:
            return self._chart_adder(*chart)
        if (long := _long(header)) is not None:
            return self._long_adder(*long)
        if tag and {"wall time", "step", "value"} == {name.lower() for name in header}:
            header = self._header = [tag if name.lower() == "value" else name for name in header]
            return self._plain_adder([tag if name.lower() == "value" else name for name in header])
        return self._plain_adder(header)

    def _plain_adder(self, names: Sequence[str]) -> _AddRow:
        table, comma = self._table, self._comma
        by_name = [table.column(name) for name in names]
        shape = table.shape_of(tuple(names))
        phases = [at for at, name in enumerate(names) if columns.is_phase(name.rpartition("/")[2].lstrip("_"))]

        def add(line: int, cells: list[str]) -> None:
            for at in phases:
                if label := columns.held_out_label(cells[at]):
                    table.add(line, labelled(dict(zip(names, cells, strict=True)), label), decimal_comma=comma)
                    return
            row = table.start_row(line, shape)
            for column, cell in zip(by_name, cells, strict=True):
                if column is None:
                    continue
                try:
                    value = float(cell)
                except ValueError:
                    column.add(row, cell, decimal_comma=comma)
                else:
                    column.rows.append(row)
                    column.values.append(value)

        return add

    def _chart_adder(self, shared: list[int], runs: Mapping[str, list[tuple[int, str]]]) -> _AddRow:
        """Return a reader of rows with the same metrics of several runs side by side."""
        table, header, comma = self._table, self._header, self._comma
        table.notes.append("an exported chart: the columns __MIN and __MAX are left out")
        if len(runs) > 1:
            table.run_column = RUN

        def add(line: int, cells: list[str]) -> None:
            common: dict[str, Cell] = {header[at]: cells[at] for at in shared}
            for run, metrics in runs.items():
                own: dict[str, Cell] = {name: cells[at] for at, name in metrics if cells[at].strip()}
                if own:
                    label: dict[str, Cell] = {RUN: f"{run} "} if len(runs) > 1 else {}
                    table.add(line, {**common, **label, **own}, decimal_comma=comma)

        return add

    def _long_adder(self, name_at: int, value_at: int) -> _AddRow:
        """Return a reader of rows that hold one value of one metric each."""
        table, header, comma = self._table, self._header, self._comma
        others = [(at, name) for at, name in enumerate(header) if at not in (name_at, value_at)]

        def add(line: int, cells: list[str]) -> None:
            row: dict[str, Cell] = {name: cells[at] for at, name in others}
            row[cells[name_at].strip() or VALUE] = cells[value_at]
            table.add(line, row, decimal_comma=comma)

        return add


def _chart(header: Sequence[str]) -> tuple[list[int], dict[str, list[tuple[int, str]]]] | None:
    """Return the shared columns of a W&B chart and those of each run, as `run - train/loss`; None for other tables."""
    known = set(header)
    bounds = {name for name in header if (found := _BOUND.fullmatch(name)) and found.group(1) in known}
    if not bounds:
        return None
    shared, runs = [], dict[str, list[tuple[int, str]]]()
    for at, name in enumerate(header):
        if name in bounds:
            continue
        found = _RUN_METRIC.fullmatch(name)
        if found is None or f"{name}__MIN" not in known:
            shared.append(at)
        elif found.group(2) != "_step":
            runs.setdefault(found.group(1), []).append((at, found.group(2)))
    return (shared, runs) if runs else None


def _long(header: Sequence[str]) -> tuple[int, int] | None:
    """Return the positions of name and value in a long table, as `tag, step, value`."""
    lower = [columns.words(name) for name in header]
    values = [at for at, words in enumerate(lower) if words == {"value"} or words == {"metric", "value"}]
    named = [at for wanted in _NAME_COLUMNS for at, words in enumerate(lower) if words == wanted]
    if len(values) != 1 or not named or any(columns.mentions_loss(name) for name in header):
        return None
    return named[0], values[0]


def _commented_header(comment: str, text: str) -> list[str] | None:
    """Return the names in a comment above rows of numbers, as `# step, loss_train, loss_test, metrics_test` (DeepXDE).

    DeepXDE writes a name once for all its loss terms: here it is repeated for each of them.
    """
    cells = _numbers_in(text)
    if not comment or len(cells) < 2 or not all(map(is_number, cells)):
        return None
    names = [name.strip() for name in (comment.split(",") if "," in comment else comment.split()) if name.strip()]
    if len(names) == len(cells):
        return names
    if names[:3] == ["step", "loss_train", "loss_test"]:
        terms, metrics = divmod(len(cells) - 1, 2)
        return ["step", *["loss_train"] * terms, *["loss_test"] * terms, *(f"metric {at + 1}" for at in range(metrics))]
    return None


def _numbers_in(text: str) -> list[str]:
    return [cell for cell in re.split(r"[,;|\s]+|:\s", text.strip()) if cell]


def numbers_only(head: Sequence[str]) -> list[str] | None:
    """Return the names of the columns if every line holds one number, or is a line of MLflow; else None."""
    lines = [text.strip() for text in head if text.strip() and not text.startswith("#")]
    if not lines:
        return None
    if all(map(is_number, lines)):
        return [VALUE]
    if (pairs := [_STEP_AND_VALUE.fullmatch(text) for text in lines]) and all(pairs):
        steps = [int(pair.group(1)) for pair in pairs if pair]
        if all(a < b for a, b in pairwise(steps)):
            return ["step", VALUE]
    rows = [text.split() for text in islice(lines, 50)]
    if all(len(row) == 3 and all(map(is_number, row)) for row in rows):
        times = [number(row[0]) for row in rows]
        if all(time is not None and time > _MILLISECONDS for time in times) and all("." not in row[2] for row in rows):
            return ["time", VALUE, "step"]
    return None


def read_numbers(lines: Iterable[str], names: Sequence[str], *, first_line: int = 1) -> Table:
    """Read rows of numbers without a header. Raises LogError."""
    table = Table(noun="row")
    if VALUE in names:
        table.notes.append("the numbers have no name: they are read as the training loss")
        names = ["loss" if name == VALUE else name for name in names]
    for name in dict.fromkeys(names):
        if (often := list(names).count(name)) > 1:
            table.notes.append(f"{name!r} is the sum of its {often} columns")
    skipped = 0
    for line, text in enumerate(lines, first_line):
        cells = [text.strip()] if len(names) == 1 else _numbers_in(text)
        if not text.strip() or text.startswith("#"):
            continue
        try:
            numbers = [number(cell) for cell in cells]
        except ValueError:
            numbers = []
        if len(numbers) != len(names):
            skipped += 1
            continue
        row: dict[str, Cell] = {}
        for name, value in zip(names, numbers, strict=True):
            before = row.get(name)
            row[name] = value if before is None or value is None else float(before) + value
        table.add(line, row)
    if skipped:
        table.notes.append(f"skipped {count(skipped, 'row')} without {count(len(names), 'number')}")
    if not len(table):
        raise LogError("empty", "the log is empty")
    return table
