"""The records of a log as columns of numbers: a million lines take some ten bytes per number."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from pytest_smoke.logs.cells import Cell, number
from pytest_smoke.logs.statements import Statement

MAX_LABELS = 1000
"""Different texts of a column that are remembered; a column with more of them does not tell runs apart."""
MAX_COLUMNS = 5000
MAX_SHAPES = 5000
SUMMARY = 1
"""Flag of a row: its line calls it a mean or a summary."""
BAR = 2
"""Flag of a row: its line is a state of a progress bar."""


class Column:
    """The numbers of one column, with the rows that have them."""

    __slots__ = (
        "blanks",
        "fractions",
        "labels",
        "name",
        "nulls",
        "rows",
        "text",
        "text_codes",
        "text_rows",
        "texts",
        "values",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows = array("L")
        self.values = array("d")
        self.blanks = array("L")
        """Rows with a blank or null cell."""
        self.nulls: set[int] = set()
        """Those with an explicit null."""
        self.texts = 0
        """Number of cells with other text."""
        self.text: tuple[int, str] = (0, "")
        """Row and text of the first of them."""
        self.labels: dict[str, int] | None = {}
        """Number of each different text; None if there are more than MAX_LABELS."""
        self.text_rows = array("L")
        self.text_codes = array("L")

    def add(self, row: int, cell: Cell, *, decimal_comma: bool = False) -> None:
        """Append the cell of a row."""
        try:
            value = float(cell) if cell.__class__ is float else number(cell, decimal_comma=decimal_comma)
        except ValueError:
            self._add_text(row, str(cell))
            return
        if value is not None:
            self.rows.append(row)
            self.values.append(value)
            return
        self.blanks.append(row)
        if cell is None:
            self.nulls.add(row)

    def _add_text(self, row: int, text: str) -> None:
        if not self.texts:
            self.text = row, text
        self.texts += 1
        if self.labels is None:
            return
        self.text_rows.append(row)
        self.text_codes.append(self.labels.setdefault(text.strip(), len(self.labels)))
        if len(self.labels) > MAX_LABELS:
            self.labels, self.text_rows, self.text_codes = None, array("L"), array("L")

    def at(self, rows: Sequence[int]) -> list[float | None]:
        """Return the value in each of the rising `rows`, None where the column has none."""
        own, values = self.rows, self.values
        if len(own) == len(rows) and own == rows:
            return list(values)
        found: list[float | None] = []
        at, end = 0, len(own)
        for row in rows:
            while at < end and own[at] < row:
                at += 1
            found.append(values[at] if at < end and own[at] == row else None)
        return found

    def before(self, rows: Sequence[int]) -> list[tuple[int, float] | None]:
        """Return the last row at or before each of the rising `rows` that has a value, and the value."""
        own, values = self.rows, self.values
        found: list[tuple[int, float] | None] = []
        at, end = 0, len(own)
        for row in rows:
            while at < end and own[at] <= row:
                at += 1
            found.append((own[at - 1], values[at - 1]) if at else None)
        return found


class Table:
    """The records of a log in file order, before the roles of their columns are known."""

    def __init__(self, *, unit: str = "line", noun: str = "line") -> None:
        self.columns: dict[str, Column] = {}
        self.lines = array("Q")
        """Line, record or event of each row, from 1."""
        self.flags = bytearray()
        """SUMMARY and BAR."""
        self.shapes = array("L")
        """Number of the form of each row: rows of one form have the same columns."""
        self.notes: list[str] = []
        self.unit = unit
        """What `lines` counts: `line`, `record` or `event`."""
        self.noun = noun
        """What a record is called: `row`, `line`, `record` or `event`."""
        self.statements: list[Statement] = []
        """What the trainer itself says about its run, in words."""
        self.starts: list[int] = []
        """Rows at which the file says that a run begins: a repeated header, the row after a final summary."""
        self.run_column: str | None = None
        """The column that names the run of each row, if the format has one."""
        self._is_full = False
        self._shape_ids: dict[tuple[str, ...], int] = {}

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, name: str) -> Column | None:
        """Return a column, created if need be; None if the log has too many, as prose with a number here and there."""
        found = self.columns.get(name)
        if found is None:
            if len(self.columns) >= MAX_COLUMNS:
                if not self._is_full:
                    self.notes.append(f"the log has more than {MAX_COLUMNS:,} columns: the later ones are not read")
                    self._is_full = True
                return None
            found = self.columns[name] = Column(name)
        return found

    def shape_of(self, names: tuple[str, ...]) -> int:
        """Return the number of the form with these columns; many rare forms share the last number."""
        return (
            self._shape_ids.setdefault(names, len(self._shape_ids)) if len(self._shape_ids) < MAX_SHAPES else MAX_SHAPES
        )

    def names_of(self, shape: int) -> tuple[str, ...]:
        """Return the columns of a form, none for a rare one."""
        return next((names for names, number in self._shape_ids.items() if number == shape), ())

    def add(self, line: int, cells: Mapping[str, Cell], flags: int = 0, *, decimal_comma: bool = False) -> None:
        """Append a row."""
        row = self.start_row(line, self.shape_of(tuple(cells)), flags)
        for name, cell in cells.items():
            if (column := self.column(name)) is not None:
                column.add(row, cell, decimal_comma=decimal_comma)

    def start_row(self, line: int, shape: int, flags: int = 0) -> int:
        """Append a row without cells and return its number."""
        self.lines.append(line)
        self.flags.append(flags)
        self.shapes.append(shape)
        return len(self.lines) - 1

    def select(self, rows: Iterable[int]) -> Table:
        """Return a table with the rising `rows` only. Notes stay with this table."""
        kept = array("L", rows)
        chosen = Table(unit=self.unit, noun=self.noun)
        chosen._shape_ids = self._shape_ids
        for row in kept:
            chosen.start_row(self.lines[row], self.shapes[row], self.flags[row])
        new_row = {row: at for at, row in enumerate(kept)}
        for name, column in self.columns.items():
            part = chosen.columns[name] = Column(name)
            for row, value in zip(column.rows, column.values, strict=True):
                if (at := new_row.get(row)) is not None:
                    part.rows.append(at)
                    part.values.append(value)
            part.blanks.extend(at for row in column.blanks if (at := new_row.get(row)) is not None)
            part.nulls = {at for row in column.nulls if (at := new_row.get(row)) is not None}
            if column.labels is None:
                part.texts, part.text, part.labels = column.texts, (0, column.text[1]), None
            else:
                names = list(column.labels)
                for row, code in zip(column.text_rows, column.text_codes, strict=True):
                    if (at := new_row.get(row)) is not None:
                        part._add_text(at, names[code])
        if kept:
            first, last = self.lines[kept[0]], self.lines[kept[-1]]
            chosen.statements = [one for one in self.statements if first <= one.line <= last + 1]
        return chosen

    def row_of_line(self, line: int) -> int:
        """Return the number of the first row at or after a line."""
        return bisect_left(self.lines, line)
