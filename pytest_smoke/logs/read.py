"""Read logs of any format. The content of a file decides its format, unless it is called .csv or .tsv."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pytest_smoke.errors import LogError
from pytest_smoke.logs import columns, tensorboard
from pytest_smoke.logs.csv_log import delimiter_of, numbers_only, read_csv, read_numbers
from pytest_smoke.logs.json_log import is_document, read_json, read_lists
from pytest_smoke.logs.line_log import json_object, read_json_lines, read_lines
from pytest_smoke.logs.log import ColumnNames, Log
from pytest_smoke.logs.runs import logs_of
from pytest_smoke.logs.source import STDIN, Source, of_bytes, of_text, open_source
from pytest_smoke.logs.table import Table
from pytest_smoke.text import count, listed

_NUMBER_IN_HEADER = re.compile(r"(?:^|[\s:=])[-+]?\.?\d")
"""Tells printed lines from CSV headers: `iter 0: loss 4.1, time 12ms` has a comma, too."""
_PRINTED_DICT = re.compile(r"\s*\{'")
_BROKEN_DOCUMENT = re.compile(r"""\s*(?:\{\s*(?:"|$)|\[\s*(?:[\[{]\s*["\[{]|[\[{]?\s*$))""")
_LIST_BEGIN = re.compile(r"""\s*["']?[A-Za-z][\w ./-]{0,60}["']?\s{0,4}[:=]\s{0,4}\[[-\d.]""")
_EXPORT = re.compile(r"(?:run-)?.*tag-([\w.-]+)", re.IGNORECASE)
"""TensorBoard calls an exported series `run-NAME-tag-Loss_train.csv`."""


def read_all(path: str, names: ColumnNames | None = None) -> list[Log]:
    """Read the runs of the log at `path`, most often one, or of standard input for `-`. Raises LogError."""
    names = names or ColumnNames()
    if path != STDIN and (os.path.isdir(path) or tensorboard.EVENT_FILE_MARK in os.path.basename(path)):
        return logs_of(path, tensorboard.read_events(Path(path)), names)
    source = open_source(path)
    try:
        return logs_of(path, _table(path, source), names)
    finally:
        source.close()


def read(path: str, names: ColumnNames | None = None) -> Log:
    """Read the log of one run. Raises LogError, also for a log with several runs."""
    return _only(read_all(path, names))


def read_text(path: str, text: str, names: ColumnNames) -> Log:
    """Read the log of one run from its text. Raises LogError, also for a log with several runs."""
    return _only(logs_of(path, _table(path, of_text(text)), names))


def read_bytes(path: str, data: bytes, names: ColumnNames) -> Log:
    """Read the log of one run from what a file holds. Raises LogError, also for a log with several runs."""
    source = of_bytes(data)
    try:
        return _only(logs_of(path, _table(path, source), names))
    finally:
        source.close()


def read_head(path: str) -> Table:
    """Read the beginning of a file. Raises LogError."""
    source = open_source(path)
    try:
        head = source.head
        return _table(path, of_text(head if source.is_whole else head[: head.rfind("\n") + 1]))
    finally:
        source.close()


def _only(logs: list[Log]) -> Log:
    if len(logs) == 1:
        return logs[0]
    text = f"the log holds {count(len(logs), 'run')} ({listed(log.run for log in logs)}): split it"
    raise LogError("several-runs", text)


def _table(path: str, source: Source) -> Table:
    head = source.head
    if not head.strip():
        raise LogError("empty", "the log is empty")
    first = next(line for line in head.split("\n") if line.strip())
    if path.lower().endswith((".csv", ".tsv")):
        return read_csv(source.lines(), tag=_tag_of(path))
    if head.lstrip()[0] in "{[":
        is_json_lines = first.lstrip().startswith("{") and json_object(first) is not None
        if is_json_lines and "\n" in head.strip():
            return read_json_lines(source.lines())
        if is_document(head, is_whole=source.is_whole) and (table := read_json(source.text())) is not None:
            return table
        if is_json_lines:
            return read_json_lines(source.lines())
        if _PRINTED_DICT.match(head):
            return read_lines(source.lines(), head)
        if _BROKEN_DOCUMENT.match(head):
            raise LogError("unreadable", "the JSON document is broken or incomplete")
    if _LIST_BEGIN.match(first) and (table := read_lists(source.text())) is not None:
        return table
    complete = head.split("\n") if source.is_whole else head.split("\n")[:-1]
    if (names := numbers_only(complete)) is not None:
        return read_numbers(source.lines(), names)
    return (
        read_csv(source.lines(), tag=_tag_of(path)) if _looks_like_csv(complete) else read_lines(source.lines(), head)
    )


def _tag_of(path: str) -> str:
    """Return the name of the only series in a file, from the name of the file."""
    found = _EXPORT.fullmatch(Path(path).stem)
    name = found.group(1) if found else Path(path).stem
    return name if columns.mentions_loss(name) else "loss"


def _looks_like_csv(lines: list[str]) -> bool:
    """Whether the first line is a header with a known column, and the second line has as many cells."""
    comment = next((line for line in lines if line.strip()), "")
    rows = [line for line in lines if line.strip() and not line.startswith("#")][:2]
    if comment.startswith("#") and columns.mentions_loss(comment) and rows and not re.search("[A-Za-df-z]", rows[0]):
        return True
    if not rows or (delimiter := delimiter_of(rows[0])) is None or _is_drawn(lines):
        return False
    cells = [cell.strip().strip('"') for cell in rows[0].split(delimiter)]
    if not any(columns.is_counter(cell) or columns.is_component(cell) for cell in cells):
        return False
    return not any(map(_NUMBER_IN_HEADER.search, cells)) and all(
        line.count(delimiter) >= len(cells) - 1 for line in rows
    )


def _is_drawn(lines: list[str]) -> bool:
    """Whether the first lines are a Markdown table, which has a line of dashes below the header."""
    rows = [line for line in lines if line.strip()][:2]
    return len(rows) == 2 and "|" in rows[0] and not set(rows[1]) - set("|-: ")
