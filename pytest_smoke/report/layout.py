"""Text that fits the width of a terminal: wrapped paragraphs and tables. Words, paths and commands are never broken."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Sequence

from pytest_smoke.text import table

WIDTH = 80
"""Columns of a terminal whose width is not known."""
MIN_CELL = 16
"""A table does not wrap a column to fewer characters than this."""
GAP = 2
"""Spaces between two columns of a table."""
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=[%±])|(?<=±) (?=\d)")
_NO_BREAK = "\N{NO-BREAK SPACE}"


def wrap(text: str, width: int = WIDTH, *, first: str = "", rest: str = "  ") -> list[str]:
    """Wrap `text` into lines of at most `width` columns: `first` in front of the first line, `rest` of all others.

    Line breaks in `text` are kept. A word that is longer than a line gets a line of its own.
    """
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        lines += textwrap.wrap(
            _BEFORE_UNIT.sub(_NO_BREAK, paragraph),
            max(width, 1),
            initial_indent=rest if lines else first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [(rest if lines else first).rstrip()]
    return [line.replace(_NO_BREAK, " ") for line in lines]


def wrapped_table(
    rows: Sequence[Sequence[str]], width: int = WIDTH, *, wrap_columns: Collection[int], right: Collection[int] = ()
) -> list[list[str]]:
    """Align rows into columns, and wrap long cells of `wrap_columns` to fit `width`: the lines of each row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    excess = sum(widths) + GAP * (len(widths) - 1) - width
    while excess > 0 and (candidates := [column for column in wrap_columns if widths[column] > MIN_CELL]):
        widest = max(candidates, key=widths.__getitem__)
        widths[widest] -= 1
        excess -= 1
    cells = [
        [wrap(cell, widths[column]) if column in wrap_columns else [cell] for column, cell in enumerate(row)]
        for row in rows
    ]
    heights = [max(map(len, row)) for row in cells]
    flat = [
        [cell[line] if line < len(cell) else "" for cell in row]
        for row, height in zip(cells, heights, strict=True)
        for line in range(height)
    ]
    lines = iter(table(flat, right=right))
    return [[next(lines) for _ in range(height)] for height in heights]


def short_ids(ids: Collection[str]) -> dict[str, str]:
    """Shorten node ids to the file's name, with as many parent folders as it takes to tell them apart."""
    return {id: next(short for short in _suffixes(id) if _is_unique(short, id, ids)) for id in ids}


def _suffixes(id: str) -> list[str]:
    path, separator, name = id.partition("::")
    parts = path.split("/")
    return ["/".join(parts[at:]) + separator + name for at in range(len(parts) - 1, 0, -1)] + [id]


def _is_unique(short: str, id: str, ids: Collection[str]) -> bool:
    return short == id or not any(other != id and (other == short or other.endswith(f"/{short}")) for other in ids)
