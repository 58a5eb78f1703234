"""Delimited tables with a header, dense or sparse: Lightning's `metrics.csv` has several rows per step, with blanks."""

from __future__ import annotations

import csv

from pytest_smoke.errors import LogError
from pytest_smoke.logs.log import Record, Table
from pytest_smoke.text import count

_DELIMITERS = ",\t;|"


def delimiter_of(header: str) -> str | None:
    """Return the most frequent delimiter in a header; None if it has none."""
    best = max(_DELIMITERS, key=header.count)
    return best if best in header else None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def read_csv(text: str) -> Table:
    """Read the rows below the header. Raises LogError."""
    lines = text.splitlines()
    skipped = next((n for n, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    if skipped == len(lines):
        raise LogError("empty", "the log is empty")
    delimiter = delimiter_of(lines[skipped]) or ","
    reader = csv.reader(lines[skipped:], delimiter=delimiter, skipinitialspace=True)
    header = [cell.strip() for cell in next(reader)]
    if all(map(_is_number, header)):
        raise LogError(
            "no-header", f"line {skipped + 1} must name the columns, but holds numbers: {lines[skipped][:60]}"
        )
    notes, records, malformed = [], [], []
    repeated_headers = 0
    try:
        for cells in reader:
            line = skipped + reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if [cell.strip() for cell in cells] == header:
                repeated_headers += 1
            elif len(cells) < len(header) and line == len(lines) and not text.endswith(("\n", "\r")):
                notes.append(f"skipped the last row (line {line}): it ends after {len(cells)} of {len(header)} cells")
            elif len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
                malformed.append((line, len(cells)))
            else:
                records.append(Record(line, dict(zip(header, cells, strict=False))))
    except csv.Error as error:
        raise LogError("unreadable", f"line {skipped + reader.line_num}: {error}") from None
    rows, problem = count(len(malformed), "row"), ""
    if malformed:
        line, cells_found = malformed[0]
        do_not = "does not" if len(malformed) == 1 else "do not"
        problem = f"{do_not} have {count(len(header), 'cell')} like the header (first: line {line} has {cells_found})"
        notes.append(f"skipped {rows} that {problem}")
    if repeated_headers:
        notes.append(
            f"the header is repeated {count(repeated_headers, 'time')} inside the log, as if runs were appended"
        )
    if len(malformed) >= len(records):
        if malformed:
            raise LogError("unreadable", f"the log cannot be read: {rows} {problem}")
        raise LogError("header-only", f"the log has a header ({', '.join(header)}), but no rows")
    return Table(records=records, notes=notes, noun="row")
