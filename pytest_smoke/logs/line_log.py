"""Logs with one record per line: JSON Lines, and what trainers print.

A line may hold a JSON object (nested keys are joined by `/`), alone or after a logger's prefix (fairseq); a Python dict
of numbers (Hugging Face); or numbers with names, as `iter 100: loss 2.31, lr 1e-4` (nanoGPT), `lm loss: 2.3E+00 |`
(Megatron), `Step [100/600], Loss: 2.31`, `loss=2.31`. Tables inside the text are read by `text_tables`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from pytest_smoke.errors import LogError
from pytest_smoke.logs import columns, text_tables
from pytest_smoke.logs.cells import NUMBER, Cell, number
from pytest_smoke.logs.shapes import Shape, shape_of
from pytest_smoke.logs.statements import MAX_STATEMENTS, Statement, is_statement
from pytest_smoke.logs.table import BAR, SUMMARY, Column, Table
from pytest_smoke.text import count

_VALUE = r"[-+]?(?:nan|inf(?:inity)?|(?:[0-9]++\.?+[0-9]*+|\.[0-9]++)(?:e[-+]?[0-9]++)?+)"
_QUOTED_PAIR = re.compile(
    rf"""['"]([^'"]{{1,200}}+)['"]\s{{0,8}}+:\s{{0,8}}+(?:['"]|[a-z][\w.]{{0,30}}+\(\[?)?({_VALUE}|none|null)(?![\w.])""",
    re.IGNORECASE,
)
_ANSI = re.compile(r"\x1b\[[0-9;?]*+[A-Za-z]")
_TYPOGRAPHIC = str.maketrans(
    "\u2018\u2019\u201c\u201d\u201e\u2032\u00a0\u202f\u2007\uff1a\uff0c\uff1d\uff08\uff09\u2212\u2500",
    "''\"\"\"'   :,=()--",
)
"""Quotes, blanks and signs of word processors, forums and Chinese text."""
_SUMMARY_KEYS = ("train_runtime", "train_samples_per_second")
"""Hugging Face ends a log with a record that has these columns; its `train_loss` is the mean of the run."""
_MAX_SHAPES = 5000
"""Forms of lines that are remembered; the text of free prose never repeats."""
_DECIMAL_COMMA = re.compile(r"(?<![\w.,])\d+,(?:\d{1,2}|\d{4,})(?![\d.,])|(?<![\w.,])0,\d+(?![\d.,])")
_DECIMAL_POINT = re.compile(r"(?<![\w.,])\d+\.\d")
MAX_DEPTH = 20
"""Levels of nested objects that are flattened; deeper ones are left out."""


def flatten(record: dict[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Cell]:
    """Return the scalars of a JSON object, nested keys joined by `/`, booleans as 1 and 0; lists are left out."""
    cells: dict[str, Cell] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            if depth < MAX_DEPTH:
                cells.update(flatten(value, f"{prefix}{key}/", depth + 1))
        elif isinstance(value, str) or value is None:
            cells[prefix + key] = value
        elif isinstance(value, int | float):
            cells[prefix + key] = _float(value)
    return cells


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond 1.8e308
        return float("inf") if value > 0 else float("-inf")


def parse_json(text: str) -> Any:
    """Parse JSON; integers too long for Python's limit become infinite. Raises ValueError, RecursionError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # more digits than sys.get_int_max_str_digits()
        return json.loads(text, parse_int=float)


def phase_cells(cells: dict[str, Cell]) -> dict[str, Cell]:
    """Name the columns of a record after its phase, if a column says that it is an evaluation: `val loss`."""
    for name, cell in cells.items():
        if (
            isinstance(cell, str)
            and columns.is_phase(name.rpartition("/")[2].lstrip("_"))
            and (label := columns.held_out_label(cell))
        ):
            return labelled(cells, label)
    return cells


def labelled(cells: dict[str, Cell], label: str) -> dict[str, Cell]:
    """Put a word for held-out data before each name that is not a step, an epoch or held-out already."""
    return {
        name if columns.is_counter(name) or columns.is_held_out(name) else f"{label} {name}": cell
        for name, cell in cells.items()
    }


def is_summary_record(cells: dict[str, Cell]) -> bool:
    """Whether a record is the summary at the end of a Hugging Face log."""
    return all(cells.get(name) for name in _SUMMARY_KEYS)


def json_object(text: str) -> dict[str, Cell] | None:
    """Return the scalars of a JSON object; None for any other text."""
    try:
        found = parse_json(text)
    except (ValueError, RecursionError):
        return None
    return flatten(found) if isinstance(found, dict) else None


def read_json_lines(lines: Iterable[str]) -> Table:
    """Read a JSON object per line; other lines are skipped with a note. Raises LogError."""
    table = Table()
    malformed, first_malformed, last_malformed, line = 0, 0, 0, 0
    for line, text in enumerate(lines, 1):
        cells = json_object(text)
        if cells is None:
            if text.strip():
                malformed, first_malformed, last_malformed = malformed + 1, first_malformed or line, line
                _add_statement(table, line, text)
        elif cells:
            _add_cells(table, line, cells)
    if last_malformed == line and line:
        table.notes.append(f"skipped the last line (line {line}): it is incomplete")
        malformed -= 1
    if malformed:
        table.notes.append(f"skipped {count(malformed, 'line')} without a JSON object (first: line {first_malformed})")
    if not len(table):
        raise LogError("no-loss-column", "no line of the log has a name with a number, as in 'step 10: loss 2.3'")
    return table


def read_lines(lines: Iterable[str], head: str) -> Table:
    """Read the lines that hold numbers; `head` is the beginning of the log. Raises LogError."""
    reader = _LineReader(head)
    line, last = 0, ""
    for line, last in enumerate(lines, 1):
        reader.add(line, last)
    table = reader.finish()
    if last.lstrip().startswith("{") and "}" not in last:
        table.notes.append(f"skipped the last line (line {line}): it is incomplete")
    if not len(table) and not table.statements:
        raise LogError("no-loss-column", "no line of the log has a name with a number, as in 'step 10: loss 2.3'")
    return table


def _add_statement(table: Table, line: int, text: str) -> bool:
    if not is_statement(text):
        return False
    if len(table.statements) < MAX_STATEMENTS:
        table.statements.append(Statement(line, " ".join(text.split())))
    return True


def _add_cells(table: Table, line: int, cells: dict[str, Cell], flags: int = 0) -> None:
    if is_summary_record(cells):
        table.starts.append(len(table))
        return
    table.add(line, phase_cells(cells), flags)


class _LineReader:
    """Reads a text log line by line into a table."""

    def __init__(self, head: str) -> None:
        self._table = Table()
        self._shapes: dict[tuple[str, ...], _Reading | None] = {}
        self._block: text_tables.Block | None = None
        self._interrupted: text_tables.Block | None = None
        """Table that another line ended: trainers print warnings and checkpoints between its rows."""
        self._previous = ""
        self._decimal_comma = bool(_DECIMAL_COMMA.search(head)) and not _DECIMAL_POINT.search(head)

    def add(self, line: int, text: str) -> None:
        """Read one line."""
        if text == "\n" and self._block is None and self._interrupted is None:  # a progress bar may print millions
            self._previous = ""
            return
        if "\x1b" in text:
            text = _ANSI.sub("", text)
        if "\b" in text:  # Keras goes back over its bar
            for state in text.split("\b"):
                if state:
                    self.add(line, state)
            return
        if not text.isascii():
            text = text.translate(_TYPOGRAPHIC)
        text = text.rstrip("\r\n")
        if self._add_to_block(line, text):
            return
        if "{" in text and self._add_braces(line, text):
            return
        self._add_numbers(line, text)

    def finish(self) -> Table:
        """Return the table of all lines."""
        self._end_block()
        return self._table

    def _add_to_block(self, line: int, text: str) -> bool:
        """Give the line to the table that is being read, or begin one with it."""
        previous, self._previous = self._previous, text
        if self._block is not None:
            rows = self._block.add(line, text_tables.drawn(text))
            if rows is not None:
                for row in rows:
                    self._add_row(row)
                return True
            if not text.strip():
                return True
            self._end_block()
        elif self._interrupted is not None:
            later = list(self._interrupted.add(line, text_tables.drawn(text)) or ())
            if later:
                self._block = self._interrupted
                for row in later:
                    self._add_row(row)
                return True
        if "|" in text or "--" in text or "\u2502" in text or "\u2503" in text:
            header, plain = text_tables.drawn(previous), text_tables.drawn(text)
            self._block = text_tables.block_of(header, plain, line)
            if self._block is not None:
                for row in self._block.add(line, plain) or ():
                    self._add_row(row)
                return True
        return False

    def _add_row(self, row: text_tables.Row) -> None:
        _add_cells(self._table, row.line, dict(row.cells), BAR if row.is_bar else 0)

    def _end_block(self) -> None:
        if self._block is not None:
            for row in self._block.end():
                self._add_row(row)
            self._interrupted = self._block if self._block.has_rows_later else None
            self._block = None

    def _add_braces(self, line: int, text: str) -> bool:
        """Read a JSON object or a Python dict in a line, and the counts and labels around it."""
        start, end = text.find("{"), text.rfind("}") + 1
        if end <= start:
            return text.lstrip().startswith("{")
        braces = text[start:end]
        cells = json_object(braces) or dict(_QUOTED_PAIR.findall(braces))
        if not cells:
            return False
        around = f"{text[:start]} \u2026 {text[end:]}"
        if around.strip(" \u2026"):
            parts = NUMBER.split(around)
            reading = self._reading(parts)
            if reading is None:
                _add_statement(self._table, line, text)
            else:
                if reading.shape.label:
                    cells = labelled(cells, reading.shape.label)
                outer = {
                    name: parts[2 * at + 1]
                    for at, name, is_weak in reading.shape.cells
                    if columns.is_counter(name) or not is_weak
                }
                cells = {**outer, **cells}
        _add_cells(self._table, line, cells)
        return True

    def _add_numbers(self, line: int, text: str) -> None:
        parts = NUMBER.split(text)
        if len(parts) == 1:
            if not _add_statement(self._table, line, text):
                self._block = text_tables.header_of(text)
            return
        reading = self._reading(parts)
        if reading is None:
            _add_statement(self._table, line, text)
            return
        table, row = self._table, -1
        for at, column, is_weak in reading.cells:
            text_number = parts[at]
            try:
                value = float(text_number)
            except ValueError:
                try:
                    value = number(text_number, decimal_comma=self._decimal_comma) or 0.0
                except ValueError:  # `0,001,001`
                    continue
            if value - value != 0.0 and (is_weak or is_statement(text)):  # NaN or infinity
                _add_statement(table, line, text)
                continue
            if row < 0:
                row = table.start_row(line, reading.row_shape, reading.shape.flags)
            column.rows.append(row)
            column.values.append(value)

    def _reading(self, parts: list[str]) -> _Reading | None:
        """Return how to read a line, split at its numbers; None if it holds no record, or may be a statement."""
        gaps = tuple(parts[::2])
        try:
            return self._shapes[gaps]
        except KeyError:
            pass
        shape = shape_of(gaps, parts[1::2], summary_flag=SUMMARY, bar_flag=BAR)
        reading = None
        if shape.cells and not is_statement("1".join(gaps)):
            names = tuple(name for _, name, _ in shape.cells)
            seen: set[str] = set()
            cells = []
            for at, name, is_weak in shape.cells:
                if name not in seen and (column := self._table.column(name)) is not None:
                    seen.add(name)
                    cells.append((2 * at + 1, column, is_weak))
            reading = _Reading(shape, tuple(cells), self._table.shape_of(names))
        if len(self._shapes) >= _MAX_SHAPES:
            self._shapes.clear()
        self._shapes[gaps] = reading
        return reading


class _Reading:
    """The columns of a form of line."""

    __slots__ = ("cells", "row_shape", "shape")

    def __init__(self, shape: Shape, cells: tuple[tuple[int, Column, bool], ...], row_shape: int) -> None:
        self.shape, self.cells, self.row_shape = shape, cells, row_shape
