"""Read what a training process sends: frames of a bounded size that hold events and nothing else. Imports no torch."""

from __future__ import annotations

import io
import pickle
import struct
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pytest_smoke import events
from pytest_smoke.errors import SmokeError
from pytest_smoke.events import Event
from pytest_smoke.text import file_size

MAX_FRAME_BYTES = 2**26
"""Largest frame. A chunk of 64 steps has about 20 kB."""
HEADER = struct.Struct("!i")
"""The number of bytes in front of each frame, as `multiprocessing.connection.Connection.send` writes it."""
NOT_EVENTS = "it sent invalid data to pytest"
EVENTS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Event)}
HINTS: dict[str, dict[str, Any]] = {name: get_type_hints(kind) for name, kind in EVENTS.items()}
"""Type by field of each event."""


class FrameError(SmokeError):
    """A training process sent something that is not a frame of events."""


class Frames:
    """Puts frames together from the bytes of a pipe."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        """Add the next bytes."""
        self._bytes += data

    def next(self) -> bytes | None:
        """Take out the next frame; None if it is not complete. Raises FrameError if there cannot be one."""
        if len(self._bytes) < HEADER.size:
            return None
        (size,) = HEADER.unpack_from(self._bytes)
        if not 0 <= size <= MAX_FRAME_BYTES:
            raise FrameError(f"it sent more than {file_size(MAX_FRAME_BYTES)} at once, or invalid data, to pytest")
        end = HEADER.size + size
        if len(self._bytes) < end:
            return None
        frame = bytes(self._bytes[HEADER.size : end])
        del self._bytes[:end]
        return frame


class _Unpickler(pickle.Unpickler):
    """Builds builtins and events. No other class is looked up, so that nothing of the task is imported or called."""

    def find_class(self, module: str, name: str) -> Any:
        if module == events.__name__ and name in EVENTS:
            return EVENTS[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not an event")


def value_of(frame: bytes) -> Any:
    """Return the builtins and events in a frame. Raises FrameError."""
    try:
        return _Unpickler(io.BytesIO(frame)).load()
    except Exception as error:  # damaged pickles raise almost anything
        raise FrameError(f"{NOT_EVENTS} ({type(error).__name__})") from None


def events_of(frame: bytes) -> list[Event]:
    """Return the events in a frame, each with values of the declared types. Raises FrameError."""
    found = value_of(frame)
    if not isinstance(found, list):
        raise FrameError(f"{NOT_EVENTS} ({type(found).__name__})")
    for event in found:
        if type(event) not in EVENTS.values():
            raise FrameError(f"{NOT_EVENTS} ({type(event).__name__})")
        for name, hint in HINTS[type(event).__name__].items():
            value = getattr(event, name, ...)  # a slot may be empty
            if not conforms(value, hint):
                raise FrameError(f"it reported a malformed {type(event).__name__}: {name} is {value!r:.100}")
    return found


def conforms(value: Any, hint: Any) -> bool:
    """Tell whether a value has the type of an event's field; an int passes as a float, a bool not as a number."""
    if hint is Any:
        return value is not ...
    if hint is float:
        return type(value) in (float, int)
    if hint is None or hint is NoneType:
        return value is None
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(conforms(value, choice) for choice in args)
    if origin is dict:
        return type(value) is dict and all(conforms(k, args[0]) and conforms(v, args[1]) for k, v in value.items())
    if origin is list or (origin is tuple and args[-1:] == (...,)):
        return type(value) in (list, tuple) and all(conforms(part, args[0]) for part in value)
    if origin is tuple:
        return type(value) in (list, tuple) and len(value) == len(args) and all(map(conforms, value, args))
    return type(value) is hint
