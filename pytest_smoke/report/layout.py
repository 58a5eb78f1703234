"""Text that fits the width of a terminal: wrapped paragraphs and tables. Words, paths and commands are never broken."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Collection, Sequence

from pytest_smoke.text import table

WIDTH = 80
"""Columns of a terminal whose width is not known."""
MIN_CELL = 16
"""A table does not wrap a column to fewer characters than this."""
SUFFIX = ".smoke.yaml"
"""Ending of a recipe's file name that short ids leave out."""
GAP = 2
"""Spaces between two columns of a table."""
_UNBREAKABLE = re.compile(r"(?<=\d) (?=[%±x])|(?<=[±x]) (?=\d)|(?<=step) (?=\d)|(?<=steps) (?=\d)")
"""Spaces that no line ends at: `5 %`, `16 x 4`, `step 419`."""
_NO_BREAK = "\N{NO-BREAK SPACE}"


def wrap(text: str, width: int = WIDTH, *, first: str = "", rest: str = "  ") -> list[str]:
    """Wrap `text` into lines of at most `width` columns: `first` in front of the first line, `rest` of all others.

    Line breaks in `text` are kept. A word that is longer than a line gets a line of its own.
    """
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        lines += textwrap.wrap(
            _UNBREAKABLE.sub(_NO_BREAK, paragraph),
            max(width, 1),
            initial_indent=rest if lines else first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [(rest if lines else first).rstrip()]
    return [line.replace(_NO_BREAK, " ") for line in lines]


def fitted_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int = WIDTH,
    *,
    wrapped: Collection[str] = (),
    dropped: Sequence[str] = (),
) -> list[list[str]]:
    """Align rows into columns that fit `width`: the lines of the header, then those of each row.

    Wraps long cells of the columns `wrapped`. Leaves out the columns `dropped` that have no values (`-` or empty), and
    then one more of them after another, the first one first, until the table fits. It may still be wider.
    """
    kept = [
        at for at, name in enumerate(header) if name not in dropped or any(row[at] not in ("", "-") for row in rows)
    ]
    for name in ("", *dropped):
        kept = [at for at in kept if header[at] != name]
        names = [header[at] for at in kept]
        columns = [at for at, name in enumerate(names) if name in wrapped]
        lines = _wrapped([names, *([row[at] for at in kept] for row in rows)], width, columns)
        if max(len(line) for row in lines for line in row) <= width:
            break
    return lines


def _wrapped(rows: Sequence[Sequence[str]], width: int, wrap_columns: Collection[int]) -> list[list[str]]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    excess = sum(widths) + GAP * (len(widths) - 1) - width
    while excess > 0 and (candidates := [column for column in wrap_columns if widths[column] > MIN_CELL]):
        widths[max(candidates, key=widths.__getitem__)] -= 1
        excess -= 1
    cells = [
        [wrap(cell, widths[column]) if column in wrap_columns else [cell] for column, cell in enumerate(row)]
        for row in rows
    ]
    heights = [max(map(len, row)) for row in cells]
    lines = iter(
        table(
            [
                [cell[line] if line < len(cell) else "" for cell in row]
                for row, height in zip(cells, heights, strict=True)
                for line in range(height)
            ]
        )
    )
    return [[next(lines) for _ in range(height)] for height in heights]


def short_ids(ids: Collection[str]) -> dict[str, str]:
    """Shorten node ids: `tagger::constant`, with as many parent folders as it takes to tell them apart."""
    suffixes = {node_id: _suffixes(node_id) for node_id in ids}
    taken = Counter(suffix for candidates in suffixes.values() for suffix in candidates)
    return {
        node_id: next((suffix for suffix in candidates if taken[suffix] == 1), candidates[-1])
        for node_id, candidates in suffixes.items()
    }


def _suffixes(node_id: str) -> list[str]:
    path, separator, name = node_id.partition("::")
    parts = path.removesuffix(SUFFIX).split("/")
    return ["/".join(parts[at:]) + separator + name for at in range(len(parts) - 1, -1, -1)]
