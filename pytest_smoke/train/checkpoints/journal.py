"""Keep a run's events on disk, so that a resumed run can report them again: one JSON object per line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_smoke.events import Event, Gradients, Resumed, Saved, StageEnded, Step, Updates, Window
from pytest_smoke.train.channel import Send
from pytest_smoke.train.checkpoints.layout import CHECKED
from pytest_smoke.train.frames import EVENTS, HINTS, conforms


class Journal:
    """Reports events, and writes them to a file when a checkpoint is saved."""

    def __init__(self, send: Send, path: Path) -> None:
        self._send, self._path = send, path
        self._unwritten: list[Event] = []

    def send(self, events: list[Event]) -> None:
        """Report events; the next `commit` writes them."""
        self._unwritten += events
        self._send(events)

    def commit(self) -> None:
        """Append the events since the last commit. Raises OSError."""
        _write(self._path, self._unwritten, mode="a")
        self._unwritten = []

    def rewind(self, step: int) -> list[Event]:
        """Cut the file back to the events before `step`, and return those. Raises OSError."""
        kept = list(_before(read(self._path), step))
        partial = self._path.with_suffix(".new")
        _write(partial, kept, mode="w")
        partial.replace(self._path)
        self._unwritten = []
        return kept


def read(path: Path) -> list[Event]:
    """Read the events of a journal up to the first line that is damaged or incomplete."""
    events: list[Event] = []
    try:
        lines = path.read_bytes().splitlines() if path.is_file() else []
    except OSError:
        return []
    for line in lines:
        event = _event_of(line)
        if event is None:
            break
        events.append(event)
    return events


def damage(path: Path, step: int) -> str:
    """Say what a journal lacks of the steps before `step`; empty if it has each of them once, in order."""
    steps = [event.step for event in _before(read(path), step) if isinstance(event, Step)]
    if steps == list(range(step)):
        return ""
    has = f"{len(set(steps)):,}" if len(set(steps)) == len(steps) else f"{len(steps):,} (some of them twice)"
    return f"{path} is damaged: of the {step:,} steps before the checkpoint it has {has}"


def _event_of(line: bytes) -> Event | None:
    """Return the event in a line; None if there is none."""
    try:
        values: dict[str, Any] = json.loads(line)
        kind = EVENTS[values.pop("event")]
        event: Event = kind(**{key: _with_tuples(part) for key, part in values.items()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    hints = HINTS[kind.__name__].items()
    return event if all(conforms(getattr(event, name), hint) for name, hint in hints) else None


def _with_tuples(part: Any) -> Any:
    """Turn the lists that JSON makes of tuples back into tuples."""
    return tuple(map(_with_tuples, part)) if isinstance(part, list) else part


def _write(path: Path, events: Iterable[Event], *, mode: str) -> None:
    with path.open(mode, encoding="utf-8") as file:
        for event in events:
            # With NaN and infinities as Python's json writes them: only `read` reads this file.
            file.write(json.dumps({"event": type(event).__name__, **asdict(event)}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _before(events: Iterable[Event], step: int) -> Iterator[Event]:
    """Yield the events that a run from `step` on does not make again."""
    newest = -1
    for event in events:
        newest = event.step if isinstance(event, Step) else newest
        if _is_before(event, step, newest):
            yield event


def _is_before(event: Event, step: int, newest: int) -> bool:
    """Tell whether an event is from before `step`; `newest` is the last step reported before it."""
    match event:
        case Resumed():
            return event.step <= step
        case StageEnded() | Updates():
            return newest < step
        case Window():
            return event.end_step <= step
        case Gradients() if event.postmortem:
            return False
        case Saved() if event.kind != CHECKED:
            return False
    # Events without a step (the start and the end of the process) are made again.
    event_step = getattr(event, "step", None)
    return event_step is not None and event_step < step
