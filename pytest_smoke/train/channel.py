"""How a training loop reports and gets its commands, over a pipe or in the same process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pytest_smoke.events import Command, Event
from pytest_smoke.plain import plain_fields

CHUNK_SECONDS = 0.1
"""Time between two reports: short enough to stop an unstable run early, long enough to cost almost nothing."""
CHUNK_STEPS = 64
"""Steps between two reports, at most."""
Send = Callable[[list[Event]], None]
"""Reports events, in order."""


class Channel(Protocol):
    """The training process's end of the connection to the pytest process."""

    def send(self, events: list[Event]) -> None:
        """Report events, in order. An empty list only shows that the process is alive."""

    def poll(self) -> Command | None:
        """Return a command that has arrived; None for nothing yet."""

    def wait(self) -> Command:
        """Wait for the command that follows the end of a stage or of the run, and return it."""

    def begin(self, step: int) -> None:
        """Note that a step begins, for a process that cannot report any more. It takes no time."""


def sending_plain(send: Send) -> Send:
    """Return a function that makes every event plain before `send` gets it: the boundary of the training process."""
    return lambda events: send([plain_fields(event) for event in events])


class PlainChannel:
    """A channel that only plain events pass."""

    def __init__(self, channel: Channel) -> None:
        self.send, self.poll, self.wait = sending_plain(channel.send), channel.poll, channel.wait
        self.begin = channel.begin
