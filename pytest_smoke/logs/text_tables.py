"""Tables inside printed text: Markdown, boxes of names and values, columns under a header."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from pytest_smoke.logs import columns
from pytest_smoke.logs.cells import MAX_CELL_CHARS, Cell, is_number, number

_DRAWN = str.maketrans(
    {
        **dict.fromkeys("\u2502\u2503\u2551", "|"),
        **dict.fromkeys("\u2500\u2501\u2550", "-"),
        **dict.fromkeys(
            "\u250c\u2510\u2514\u2518\u251c\u2524\u252c\u2534\u253c\u256d\u256e\u2570\u256f\u2554\u2557\u255a\u255d"
            "\u2560\u2563\u2566\u2569\u256c\u250f\u2513\u2517\u251b\u2521\u2529\u2547\u2533\u253b\u254b\u2523\u252b",
            "+",
        ),
    }
)
"""Characters that draw boxes, as `rich` prints them."""
_RULE = re.compile(r"[|+:\s]*+[-=]{2,}[-=|+:\s]*+")
_MARKDOWN_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)+\|?\s*")
_DASHES = re.compile(r"-+")
MAX_HEADER_CHARS = 2000
MAX_TABLE_COLUMNS = 500


class Row(NamedTuple):
    """A record of a table."""

    line: int
    cells: dict[str, Cell]
    is_bar: bool = False
    """Whether a progress bar follows the cells."""


class Block(Protocol):
    """A table that is being read."""

    has_rows_later: bool
    """Whether rows after other lines still belong to it."""

    def add(self, line: int, text: str) -> Iterator[Row] | None:
        """Take a line. Return the records that it completes, or None if the line is not part of the table."""

    def end(self) -> Iterator[Row]:
        """Return the record that the end of the table completes."""


def drawn(text: str) -> str:
    """Replace characters that draw boxes by `|`, `-` and `+`."""
    return text if text.isascii() else text.translate(_DRAWN)


def block_of(header: str, text: str, line: int) -> Block | None:
    """Return the table that begins with `text`, the line after `header`; None if none does."""
    if len(header) > MAX_HEADER_CHARS or len(text) > MAX_HEADER_CHARS:
        return None
    if "|" in text and _MARKDOWN_RULE.fullmatch(text) and "|" in header:
        names = _split(header)
        if len(names) == len(_split(text)) and _has_role(names):
            return _PipeTable(names)
    if _is_boxed(text):
        return _box_of(header, text)
    if "-" in text and _RULE.fullmatch(text) and not set(text) - set("- ") and _has_role([header]):
        names = [header[found.start() : found.end() + 1].strip() for found in _spans(text)]
        if len(names) > 1 and all(names):
            return _ColumnTable(names, None)
    return None


def header_of(text: str) -> Block | None:
    """Return the table whose header is this line without a number, of cells between tabs, commas or wide blanks."""
    if len(text) > MAX_HEADER_CHARS or "|" in text or not columns.mentions_loss(text):
        return None
    for delimiter in ("\t", ",", ";", None):
        names = _cells(text, delimiter)
        if (
            2 <= len(names) <= MAX_TABLE_COLUMNS
            and all(len(name) <= 40 for name in names)
            and _has_role(names, counter=True)
        ):
            return _ColumnTable(names, delimiter)
    return None


def _box_of(header: str, text: str) -> Block | None:
    cells = _split(text)
    if len(cells) < 2 or not _RULE.fullmatch(header):
        return None
    if len(cells) == 2 and (is_number(cells[1]) or (cells[0].endswith("/") and not cells[1])):
        return _Box()
    return _PipeTable(cells) if not any(map(is_number, filter(None, cells))) and _has_role(cells) else None


class _PipeTable:
    """A Markdown table, or a grid with a header."""

    has_rows_later = True

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def add(self, line: int, text: str) -> Iterator[Row] | None:
        if _RULE.fullmatch(text):
            return iter(())
        cells = _split(text)
        if "|" not in text or len(cells) != len(self._names):
            return None
        if cells == self._names:
            return iter(())
        return iter([Row(line, dict(zip(self._names, cells, strict=True)))])

    def end(self) -> Iterator[Row]:
        return iter(())


class _Box:
    """A record as a box of names and values; a name that ends in `/` is the prefix of the indented ones below it."""

    has_rows_later = False

    def __init__(self) -> None:
        self._cells: dict[str, Cell] = {}
        self._prefix = ""
        self._line = 0

    def add(self, line: int, text: str) -> Iterator[Row] | None:
        if _RULE.fullmatch(text):
            return self.end()
        if not _is_boxed(text):
            return None
        cells = _split(text)
        if len(cells) != 2:
            return None
        name, value = cells
        is_indented = text.strip().strip("|").startswith("   ")
        if not value:
            self._prefix = name if name.endswith("/") else ""
            return iter(())
        done = list(self.end()) if self._prefix + name in self._cells else []
        self._cells[self._prefix + name if is_indented else name] = value
        self._line = self._line or line
        return iter(done)

    def end(self) -> Iterator[Row]:
        cells, line = self._cells, self._line
        self._cells, self._line, self._prefix = {}, 0, ""
        return iter([Row(line, cells)] if cells else [])


class _ColumnTable:
    """Rows of numbers under a header; what follows the last column is ignored, as the bar of Ultralytics is."""

    has_rows_later = True

    def __init__(self, names: list[str], delimiter: str | None) -> None:
        self._names, self._delimiter = _unique(names), delimiter

    def add(self, line: int, text: str) -> Iterator[Row] | None:
        if not set(text.strip()) - set("-= \t"):
            return iter(())
        cells = _cells(text, self._delimiter, width=len(self._names))
        if self._delimiter is None and "[" in text:  # DeepXDE: a list per cell
            cells = [_summed(cell) for cell in re.split(r"\s{2,}", text.strip())]
        if len(cells) < len(self._names):
            return None
        is_longer = len(cells) > len(self._names)
        cells = [cell.strip() for cell in cells[: len(self._names)]]
        if is_longer and not (self._delimiter is None and cells[-1].endswith(":")):
            return None
        cells[-1] = cells[-1].rstrip(":")
        if not is_number(cells[0].rstrip("%")) or sum(map(_is_cell, cells)) * 2 <= len(cells):
            return None
        return iter([Row(line, dict(zip(self._names, cells, strict=True)), is_longer)])

    def end(self) -> Iterator[Row]:
        return iter(())


def _is_cell(cell: str) -> bool:
    try:
        number(cell)
    except ValueError:
        return False
    return True


def _summed(cell: str) -> str:
    """Return the sum of a list of terms, as `[2.53e+00, 1.23e-01]`; other cells as they are."""
    if not (cell.startswith("[") and cell.endswith("]")) or len(cell) > MAX_CELL_CHARS:
        return cell
    parts = [part for part in re.split(r"[,\s]+", cell[1:-1]) if part]
    try:
        return repr(sum(float(part) for part in parts)) if parts else ""
    except ValueError:
        return cell


def _is_boxed(text: str) -> bool:
    stripped = text.strip()
    return len(stripped) > 2 and stripped[0] == "|" == stripped[-1] and stripped.count("|") <= MAX_TABLE_COLUMNS


def _split(text: str) -> list[str]:
    return [cell.strip() for cell in text.strip().removeprefix("|").removesuffix("|").split("|")]


def _cells(text: str, delimiter: str | None, width: int | None = None) -> list[str]:
    if delimiter is not None:
        return [cell.strip() for cell in text.strip("\r\n").split(delimiter)]
    if width is not None:
        return text.split(None, width) if len(text) <= MAX_HEADER_CHARS + MAX_CELL_CHARS else []
    wide = [cell for cell in re.split(r"\s{2,}", text.strip()) if cell]
    return wide if len(wide) > 1 else []


def _spans(rule: str) -> list[re.Match[str]]:
    """Return the spans of the dashes, each widened to the next one, because names may be wider."""
    return list(_DASHES.finditer(rule))


def _has_role(names: list[str], *, counter: bool = False) -> bool:
    """Whether a name is that of a loss, and if asked for, another that of a step or an epoch."""
    if not any(columns.mentions_loss(name) for name in names):
        return False
    return not counter or any(map(columns.is_counter, names))


def _unique(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found
