"""The line between a rehearsal and who judges it."""

from __future__ import annotations

from typing import Protocol

from pytest_smoke.events import Command, Event


class Channel(Protocol):
    """The child's end of the line to its parent."""

    def send(self, records: list[Event]) -> None:
        """Hand over records, in order."""

    def poll(self, *, wait: bool = False) -> Command | None:
        """What the parent says: None to go on, or Stop.

        With `wait`: after a stage Go, Halt or Stop; after the last step None to finish, or Stop.
        """
