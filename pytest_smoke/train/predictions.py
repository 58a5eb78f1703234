"""Write the task's predictions to a file, from which the pytest process sorts their errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from torch import nn

from pytest_smoke.errors import TaskError
from pytest_smoke.task import Task
from pytest_smoke.train.hooks import hook_of


def write_predictions(task: Task, model: nn.Module, path: Path | None, *, makes_all_rows: bool = False) -> int | None:
    """Write the rows of the task's `predictions` as JSON Lines; return their number, or None without such a method.

    The file is written under another name and renamed; without a `path` the rows are only made. `makes_all_rows`: also
    after a row that cannot be written, because the other processes of a sharded model wait for this one's passes.
    Raises TaskError for a row that JSON cannot hold, and OSError.
    """
    predictions = hook_of(task, "predictions")
    if predictions is None:
        return None
    rows = iter(_rows(predictions(model)))
    try:
        return sum(1 for _ in rows) if path is None else _write(rows, path)
    finally:
        if makes_all_rows:
            for _ in rows:
                pass


def _write(rows: Iterator[object], path: Path) -> int:
    """Write the rows to a file, and return their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    count = 0
    try:
        with partial.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(_line(row, count) + "\n")
                count += 1
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _rows(returned: object) -> Iterable[object]:
    if isinstance(returned, Iterable) and not isinstance(returned, str | bytes | Mapping):
        return returned
    raise TaskError(f"predictions(model) returned {returned!r:.200}: it must return rows, one per held-out example")


def _line(row: object, number: int) -> str:
    try:
        if isinstance(row, Mapping):
            return json.dumps(dict(row), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        pass
    shown = " ".join(repr(row).split())  # a module's repr has many lines
    raise TaskError(
        f"predictions(model) returned {shown:.200} as row {number}: it must be a mapping with 'raw', 'gold' and 'pred' "
        "that consists of strings, finite numbers, lists and mappings"
    )
