"""Find and read logs of any format. The content of a file decides its format, unless it is called .csv or .tsv."""

from __future__ import annotations

import os
import re
import sys
from fnmatch import fnmatch
from pathlib import Path

from pytest_smoke.errors import LogError
from pytest_smoke.files import read_failure
from pytest_smoke.logs import columns, tensorboard
from pytest_smoke.logs.csv_log import delimiter_of, read_csv
from pytest_smoke.logs.json_log import read_json
from pytest_smoke.logs.line_log import is_json_lines, read_lines
from pytest_smoke.logs.log import ColumnNames, Log, Table
from pytest_smoke.logs.points import points_of

STDIN = "-"
KNOWN_NAMES = (
    "trainer_state.json",
    "metrics*.csv",
    "metrics*.json*",
    "history*.csv",
    "history*.json*",
    "log*.csv",
    "log*.json*",
    "log*.txt",
    "*.log",
    "loss*.csv",
    "train*.csv",
    "train*.jsonl",
    "train*.txt",
    "progress.csv",
)
"""Files that are logs in a folder; TensorBoard event files are logs, too."""

_NUMBER_IN_HEADER = re.compile(r"(?:^|[\s:=])[-+]?\.?\d")
"""Tells printed lines from CSV headers: `iter 0: loss 4.1, time 12ms` has a comma, too."""
_PRINTED_DICT = re.compile(r"\s*\{'")
_DOCUMENT = re.compile(r"""\s*(?:\{\s*(?:"|$)|\[\s*(?:[\[{]|$))""")
_HEADER_CHARACTERS = 10_000
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def find(path: str) -> list[str]:
    """Return the logs in a folder, sorted by name, or `path` itself. Raises LogError if a folder has no logs.

    A folder of TensorBoard event files is one log. Of the trainer states in the checkpoints of a run, only the newest
    is returned: it has the history of the others.
    """
    if path == STDIN or not os.path.isdir(path):
        return [path]
    found: list[str] = []
    events: set[str] = set()
    states: dict[str, tuple[int, str]] = {}
    for folder, folders, files in os.walk(path):
        folders.sort()
        if any(tensorboard.EVENT_FILE_MARK in name for name in files):
            # SummaryWriter.add_scalars writes each series to its own subfolder: `loss_train`, `loss_val`.
            parent, series = os.path.split(folder)
            if parent in events and columns.is_held_out(series):
                continue
            events.add(folder)
            found.append(folder)
        for name in sorted(files):
            file = os.path.join(folder, name)
            if tensorboard.EVENT_FILE_MARK in name or not (
                any(fnmatch(name, known) for known in KNOWN_NAMES) or _has_loss_column(file)
            ):
                continue
            run, checkpoint = os.path.split(folder)
            at = _CHECKPOINT.fullmatch(checkpoint)
            if name == "trainer_state.json":
                states[run if at else folder] = max(
                    states.get(run if at else folder, (-1, "")), (int(at.group(1)) if at else sys.maxsize, file)
                )
            else:
                found.append(file)
    found = sorted([*found, *(file for _, file in states.values())])
    if not found:
        known = ", ".join(KNOWN_NAMES)
        text = f"no log in this folder: searched for {known}, any .csv with a loss column, and TensorBoard event files"
        raise LogError("no-log", text)
    return found


def _has_loss_column(path: str) -> bool:
    """Whether the file is a CSV whose header has a training loss."""
    if not path.endswith(".csv"):
        return False
    try:
        with open(path, encoding="utf-8") as lines:
            header = lines.readline(_HEADER_CHARACTERS)
        columns.loss_column(dict.fromkeys((cell.strip().strip('"') for cell in header.split(",")), 1))
    except (OSError, UnicodeDecodeError, LogError):
        return False
    return True


def read(path: str, names: ColumnNames | None = None) -> Log:
    """Read the log at `path`, or standard input for `-`. Raises LogError."""
    names = names or ColumnNames()
    if path != STDIN and (os.path.isdir(path) or tensorboard.EVENT_FILE_MARK in os.path.basename(path)):
        return points_of(path, tensorboard.read_events(Path(path)), names)
    return read_text(path, text_of(path), names)


def read_text(path: str, text: str, names: ColumnNames) -> Log:
    """Read the log with the content `text`. Raises LogError."""
    return points_of(path, _table(path, text), names)


def text_of(path: str) -> str:
    """Return the text of a log. Raises LogError if it cannot be read or is binary."""
    try:
        content = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise LogError("unreadable", read_failure(error)) from None
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):  # what PowerShell's `>` writes
        return content.decode("utf-16", errors="replace")
    if b"\0" in content[:4096]:
        raise LogError("unreadable", "the log is not a text file")
    return content.decode("utf-8-sig", errors="replace")


def _table(path: str, text: str) -> Table:
    if not text.strip():
        raise LogError("empty", "the log is empty")
    if path.lower().endswith((".csv", ".tsv")):
        return read_csv(text)
    if text.lstrip()[0] in "{[":
        lines = is_json_lines(text)
        if not (lines and "\n" in text.strip()) and (table := read_json(text)) is not None:
            return table
        if lines or _PRINTED_DICT.match(text):
            return read_lines(text)
        if _DOCUMENT.match(text):
            raise LogError("unreadable", "the JSON document is broken or incomplete")
    return read_csv(text) if _looks_like_csv(text) else read_lines(text)


def _looks_like_csv(text: str) -> bool:
    """Whether the first line is a header with a known column, and the second line has as many cells."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")][:2]
    if not lines or (delimiter := delimiter_of(lines[0])) is None:
        return False
    cells = [cell.strip().strip('"') for cell in lines[0].split(delimiter)]
    known = dict.fromkeys(cells, 1)
    if not (columns.step_column(known) or columns.epoch_column(known) or any(map(columns.is_component, cells))):
        return False
    return not any(map(_NUMBER_IN_HEADER.search, cells)) and all(
        line.count(delimiter) >= len(cells) - 1 for line in lines
    )
