"""TensorBoard event files and folders of them. Needs the `tensorboard` package."""

from __future__ import annotations

import importlib
import struct
from pathlib import Path
from typing import Any

from pytest_smoke.errors import LogError
from pytest_smoke.logs.log import Row, Table

MARK = "tfevents"
"""Part of every event file's name."""


_HEAD = struct.Struct("<Q4x")
"""A record is its length, a checksum of that, as many bytes, and a checksum of those."""
_FOOT_BYTES = 4


def _cut_off(file: Path) -> bool:
    """Whether the file ends inside a record; TensorBoard's reader stops there without a word."""
    with file.open("rb") as stream:
        size, at = stream.seek(0, 2), 0
        while at < size:
            stream.seek(at)
            head = stream.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return True
            at += _HEAD.size + int(_HEAD.unpack(head)[0]) + _FOOT_BYTES
    return at > size


def read_events(path: Path) -> Table:
    """The scalars of an event file, or of all event files in a folder. Raises `LogError`."""
    files = [path] if path.is_file() else sorted(path.glob(f"*{MARK}*"))
    if not files:
        raise LogError("no-log" if path.is_dir() else "unreadable", f"there is no event file ({MARK} in its name) here")
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
    notes = [f"the event file {file.name} is cut off in its last record" for file in files if _cut_off(file)]
    return Table(rows=rows, notes=notes, unit="event")
