"""Delimited tables with a header, dense or sparse: Lightning's `metrics.csv` has several rows a step, with blanks."""

from __future__ import annotations

import csv

from pytest_smoke.errors import LogError
from pytest_smoke.logs.log import Row, Table

_DELIMITERS = ",\t;|"


def delimiter_of(header: str) -> str | None:
    """The character that cuts this header into most cells; None if none does."""
    best = max(_DELIMITERS, key=header.count)
    return best if best in header else None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def read_csv(text: str) -> Table:
    """The rows below the header. Raises `LogError`."""
    lines = text.splitlines()
    skipped = next((n for n, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    if skipped == len(lines):
        raise LogError("empty", "the log is empty")
    delimiter = delimiter_of(lines[skipped]) or ","
    reader = csv.reader(lines[skipped:], delimiter=delimiter, skipinitialspace=True)
    header = [cell.strip() for cell in next(reader)]
    if all(map(_is_number, header)):
        raise LogError(
            "no-header", f"line {skipped + 1} should name the columns, but holds numbers: {lines[skipped][:60]}"
        )
    notes, rows, odd = [], [], []
    again = 0
    try:
        for cells in reader:
            line = skipped + reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if [cell.strip() for cell in cells] == header:
                again += 1
            elif len(cells) < len(header) and line == len(lines) and not text.endswith(("\n", "\r")):
                notes.append(f"the last line ({line}) is cut off after {len(cells)} of {len(header)} cells: left out")
            elif len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
                odd.append((line, len(cells)))
            else:
                rows.append(Row(line, dict(zip(header, cells, strict=False))))
    except csv.Error as error:
        raise LogError("unreadable", f"line {skipped + reader.line_num}: {error}") from None
    if odd:
        line, count = odd[0]
        notes.append(
            f"{len(odd)} lines have not the header's {len(header)} cells (first: line {line}, with {count}): left out"
        )
    if again:
        notes.append(f"the header is repeated {again} times inside the log: a run that was started again")
    if len(odd) >= len(rows):
        if odd:
            raise LogError("unreadable", notes[-1])
        raise LogError("header-only", f"the log has a header ({', '.join(header)}) and nothing below it")
    return Table(rows=rows, notes=notes)
