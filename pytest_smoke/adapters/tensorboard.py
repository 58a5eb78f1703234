"""TensorBoard event files and folders of them. Needs the `tensorboard` package."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from pytest_smoke.adapters.log import LogError, Row, Table

MARK = "tfevents"
"""Part of every event file's name."""


def read_events(path: Path) -> Table:
    """The scalars of an event file, or of all event files in a folder. Raises `LogError`."""
    try:
        accumulators: Any = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
        tensors: Any = importlib.import_module("tensorboard.util.tensor_util")
    except ImportError as error:
        text = f"TensorBoard event files need the package tensorboard (pip install tensorboard): {error}"
        raise LogError("no-tensorboard", text) from None
    # The default drops what a restarted run logged before, without a word; 0 keeps every point of a tag.
    events = accumulators.EventAccumulator(
        str(path), size_guidance={"scalars": 0, "tensors": 0}, purge_orphaned_data=False
    )
    events.Reload()
    found = [
        (event.wall_time, event.step, tag, event.value)
        for tag in events.Tags()["scalars"]
        for event in events.Scalars(tag)
    ]
    for tag in events.Tags()["tensors"]:  # TensorFlow 2 writes scalars as tensors
        for event in events.Tensors(tag):
            value = tensors.make_ndarray(event.tensor_proto)
            if value.size == 1 and value.dtype.kind in "fiu":
                found.append((event.wall_time, event.step, tag, value.item()))
    if not found:
        raise LogError("empty", "the event file holds no scalars")
    found.sort(key=lambda event: event[0])
    rows = [Row(at, {"step": float(step), tag: float(value)}) for at, (_, step, tag, value) in enumerate(found, 1)]
    return Table(rows=rows, unit="event")
