"""A run's records on disk, so that they survive the run: one JSON object a line, appended at checkpoints."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from pytest_smoke.events import (
    Command,
    Continue,
    Event,
    Gradients,
    Resumed,
    Saved,
    StageEnded,
    Step,
    Updates,
)
from pytest_smoke.train.channel import Channel
from pytest_smoke.train.checkpoints.layout import CHECKED

KINDS = {kind.__name__: kind for kind in get_args(Event)}


class Journal:
    """Passes records on, and keeps those that a resumed run must tell again."""

    def __init__(self, channel: Channel, path: Path) -> None:
        self._channel, self._path = channel, path
        self._unwritten: list[Event] = []

    def send(self, records: list[Event]) -> None:
        """Hand over records; they are on disk after the next `commit`."""
        self._unwritten += records
        self._channel.send(records)

    def poll(self, *, wait: bool = False) -> Command | None:
        """The listener's word."""
        return self._channel.poll(wait=wait)

    def commit(self) -> None:
        """Append what came since the last time. Raises OSError."""
        _write(self._path, self._unwritten, mode="a")
        self._unwritten = []

    def rewind(self, step: int) -> Command | None:
        """Cut the file back to what was before `step`, and tell the listener that. Raises OSError.

        It is asked at the end of each stage, as it was then; its word where that is not to go on, else None.
        """
        kept = list(_before(read(self._path), step))
        beside = self._path.with_suffix(".new")
        _write(beside, kept, mode="w")
        beside.replace(self._path)
        self._unwritten = []
        told = 0
        for number, record in enumerate(kept, start=1):
            if isinstance(record, StageEnded):
                self._channel.send(kept[told:number])
                told = number
                command = self._channel.poll(wait=True)
                if not isinstance(command, Continue):
                    return command
        self._channel.send(kept[told:])
        return None


def read(path: Path) -> list[Event]:
    """The records of a journal; a last line that was cut off in writing is dropped."""
    found: list[Event] = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            fields: dict[str, Any] = json.loads(line)
        except ValueError:
            break
        kind = KINDS[fields.pop("record")]
        found.append(kind(**{key: tuple(part) if isinstance(part, list) else part for key, part in fields.items()}))
    return found


def _write(path: Path, records: Iterable[Event], *, mode: str) -> None:
    with path.open(mode, encoding="utf-8") as file:
        for record in records:
            # JSON has no NaN, but Python's reads its own, and nobody else reads this.
            file.write(json.dumps({"record": type(record).__name__, **asdict(record)}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _before(records: Iterable[Event], step: int) -> Iterator[Event]:
    """Those that a run which begins at `step` will not make again."""
    newest = -1
    for record in records:
        newest = record.step if isinstance(record, Step) else newest
        if _is_before(record, step, newest):
            yield record


def _is_before(record: Event, step: int, newest: int) -> bool:
    """`newest`: the step told last when the record was made."""
    match record:
        case Resumed():
            return record.step <= step
        case StageEnded() | Updates():
            return newest < step
        case Gradients() if record.postmortem:
            return False
        case Saved() if record.kind != CHECKED:
            return False
    # What has no step (the start, the end) is told anew.
    made = getattr(record, "step", None)
    return made is not None and made < step
