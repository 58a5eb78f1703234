"""Find the logs in a folder."""

from __future__ import annotations

import os
import re
import sys
from fnmatch import fnmatch
from itertools import islice

from pytest_smoke.errors import LogError
from pytest_smoke.files import BISECT, STALE, VERDICTS
from pytest_smoke.logs import columns, tensorboard
from pytest_smoke.logs.read import read_head
from pytest_smoke.logs.source import STDIN, is_regular

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
SNIFFED_SUFFIXES = (".csv", ".tsv", ".jsonl", ".txt", ".out")
"""Other files are logs if they end in one of these and have a column of losses."""
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def is_known_name(name: str) -> bool:
    """Whether a file is called like a log."""
    return any(fnmatch(name, known) for known in KNOWN_NAMES)


def searched() -> str:
    """Say which files of a folder are logs."""
    suffixes = f"{', '.join(SNIFFED_SUFFIXES[:-1])} or {SNIFFED_SUFFIXES[-1]}"
    return f"{', '.join(KNOWN_NAMES)}, any {suffixes} with a loss column, and TensorBoard event files"


def find(path: str) -> list[str]:
    """Return the logs in a folder, sorted by name, or `path` itself. Raises LogError if a folder has no logs.

    A folder of TensorBoard event files is one log. Of the trainer states in the checkpoints of a run, only the newest
    is returned: it has the history of the others. Pipes and devices are passed over.
    """
    if path == STDIN or not os.path.isdir(path):
        return [path]
    found: list[str] = []
    events: set[str] = set()
    states: dict[str, tuple[int, str]] = {}
    for folder, folders, files in os.walk(path):
        folders.sort()
        is_report = VERDICTS in files or BISECT in files
        if is_report and STALE in folders:  # what earlier sessions left
            folders.remove(STALE)
        if any(tensorboard.EVENT_FILE_MARK in name for name in files):
            # SummaryWriter.add_scalars writes each series to its own subfolder: `loss_train`, `loss_val`.
            parent, series = os.path.split(folder)
            if parent in events and columns.is_held_out(series):
                continue
            events.add(folder)
            found.append(folder)
        for name in sorted(files):
            file = os.path.join(folder, name)
            if tensorboard.EVENT_FILE_MARK in name or not is_regular(file) or not _is_log(file, name):
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
        raise LogError("no-log", f"no log in this folder: searched for {searched()}")
    return found


def _is_log(path: str, name: str) -> bool:
    """Whether a file is called like a log, or its beginning has a training loss."""
    if is_known_name(name):
        return True
    if not name.lower().endswith(SNIFFED_SUFFIXES):
        return False
    try:
        table = read_head(path)
    except LogError:
        return False
    return any(columns.is_component(name) for name in islice(table.columns, 10_000))
