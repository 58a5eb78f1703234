"""What a training process sends is read as events, or refused in one sentence."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.events import Ended, Metrics, Step, Updates
from pytest_smoke.train.frames import HEADER, MAX_FRAME_BYTES, FrameError, Frames, events_of, value_of

STEP = Step(0, 1.5, {"ce": 1.5}, 0.2, 0.1)


def framed(data: bytes) -> bytes:
    return HEADER.pack(len(data)) + data


@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(1, 30))
def test_frames_are_put_together_from_pieces_of_any_size(contents: list[bytes], size: int) -> None:
    stream, frames, found = b"".join(map(framed, contents)), Frames(), []
    for at in range(0, len(stream), size):
        frames.feed(stream[at : at + size])
        while (frame := frames.next()) is not None:
            found.append(frame)
    assert found == contents


@pytest.mark.parametrize("size", [-1, MAX_FRAME_BYTES + 1, 2**31 - 1])
def test_a_frame_of_an_impossible_size_is_refused_before_it_is_read(size: int) -> None:
    frames = Frames()
    frames.feed(struct.pack("!i", size))
    with pytest.raises(FrameError, match=r"it sent more than 67\.1 MB at once, or invalid data, to pytest"):
        frames.next()


def test_events_are_read_as_they_were_sent() -> None:
    events = [STEP, Metrics(3, {"f1": float("nan")}), Updates(("a",), (), (), 2), Ended(1, 2.0, None)]
    assert repr(events_of(pickle.dumps(events))) == repr(events)


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("exit 3",)


@pytest.mark.parametrize("sent", [[Runs()], [os.system], {"step": 1}, 3, [STEP, "text"], [ValueError("text")]])
def test_what_is_no_list_of_events_is_refused_and_nothing_of_it_is_called(sent: Any) -> None:
    with pytest.raises(FrameError, match="it sent invalid data to pytest"):
        events_of(pickle.dumps(sent))


@pytest.mark.parametrize(
    ("event", "fault"),
    [
        (Step(0, None, {}, 0.0, 0.0), "loss is None"),  # type: ignore[arg-type]
        (Step(0, 1.0, {None: 1.0}, 0.0, 0.0), r"terms is \{None: 1.0\}"),  # type: ignore[dict-item]
        (Step("0", 1.0, {}, 0.0, 0.0), "step is '0'"),  # type: ignore[arg-type]
        (Step(True, 1.0, {}, 0.0, 0.0), "step is True"),
    ],
)
def test_a_field_of_another_type_is_named(event: Step, fault: str) -> None:
    with pytest.raises(FrameError, match=f"it reported a malformed Step: {fault}"):
        events_of(pickle.dumps([event]))


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_harmless(data: bytes) -> None:
    with contextlib.suppress(FrameError):
        value_of(data)


@given(st.data())
def test_a_damaged_frame_is_refused_or_still_consists_of_events(data: st.DataObject) -> None:
    frame = bytearray(pickle.dumps([STEP, Metrics(3, {"f1": 0.5})]))
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        events = events_of(bytes(frame))
    except FrameError:
        return
    assert all(isinstance(event, Step | Metrics) for event in events)
