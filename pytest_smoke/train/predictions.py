"""The task's own predictions, written where the parent can sort their errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import nn

from pytest_smoke.errors import TaskError
from pytest_smoke.train.task import Task


def write_predictions(task: Task, model: nn.Module, path: Path) -> int | None:
    """The rows of the task's `predictions`, a line each, and how many there are; None where it has no such method.

    Written beside `path` and renamed. Raises TaskError for a row that is no mapping of strings to plain values.
    """
    predictions = getattr(task, "predictions", None)
    if predictions is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    count = 0
    try:
        with partial.open("w", encoding="utf-8") as out:
            for row in _rows(predictions(model)):
                out.write(_line(row, count) + "\n")
                count += 1
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _rows(given: object) -> Iterable[object]:
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
        return given
    raise TaskError(f"predictions(model) returned {given!r:.200}: it must give rows, one a held-out example")


def _line(row: object, number: int) -> str:
    try:
        if isinstance(row, Mapping):
            return json.dumps(dict(row), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        pass
    raise TaskError(
        f"predictions(model) gave {row!r:.200} as row {number}: it must be a mapping with 'raw', 'gold' and 'pred' in "
        "strings, numbers, lists and mappings"
    )
