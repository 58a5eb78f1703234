"""TensorBoard event files, and folders with event files. Needs the `tensorboard` package."""

from __future__ import annotations

import importlib
import struct
from pathlib import Path
from typing import Any

from pytest_smoke.errors import LogError
from pytest_smoke.logs.source import check_regular
from pytest_smoke.logs.table import Table

EVENT_FILE_MARK = "tfevents"
"""Part of the name of every event file."""

_HEAD = struct.Struct("<Q4x")
"""A record is its length, the checksum of the length, as many bytes, and their checksum."""
_FOOT_BYTES = 4


def _is_truncated(file: Path) -> bool:
    """Whether the file ends inside a record; TensorBoard's reader stops there silently."""
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
    """Read the scalars of an event file, or of all event files in a folder. Raises LogError."""
    if not path.exists():
        raise LogError("unreadable", "file not found")
    files = sorted(path.glob(f"*{EVENT_FILE_MARK}*")) if path.is_dir() else [path]
    for file in files:
        check_regular(str(file))
    if not files:
        text = f"there is no event file here (a file with {EVENT_FILE_MARK} in its name)"
        raise LogError("no-log" if path.is_dir() else "unreadable", text)
    try:
        accumulators: Any = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
        tensors: Any = importlib.import_module("tensorboard.util.tensor_util")
    except ImportError as error:
        text = f"reading TensorBoard event files needs the package tensorboard (pip install tensorboard): {error}"
        raise LogError("no-tensorboard", text) from None
    # By default, the reader silently drops what a restarted run logged before; a size of 0 keeps all points of a tag.
    events = accumulators.EventAccumulator(
        str(path), size_guidance={"scalars": 0, "tensors": 0}, purge_orphaned_data=False
    )
    events.Reload()
    scalars = [
        (event.wall_time, event.step, tag, event.value)
        for tag in events.Tags()["scalars"]
        for event in events.Scalars(tag)
    ]
    for tag in events.Tags()["tensors"]:  # TensorFlow 2 writes scalars as tensors
        for event in events.Tensors(tag):
            value = tensors.make_ndarray(event.tensor_proto)
            if value.size == 1 and value.dtype.kind in "fiu":
                scalars.append((event.wall_time, event.step, tag, value.item()))
    if not scalars:
        raise LogError("empty", "the event file has no scalars")
    scalars.sort(key=lambda scalar: scalar[0])
    table = Table(unit="event", noun="event")
    for at, (_, step, tag, value) in enumerate(scalars, 1):
        table.add(at, {"step": float(step), tag: float(value)})
    table.notes = [
        f"the event file {file.name} ends inside a record: its end is missing" for file in files if _is_truncated(file)
    ]
    return table
