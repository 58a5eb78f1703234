"""The line between a rehearsal and who judges it."""

from __future__ import annotations

from typing import Protocol

from pytest_smoke.events import Record, Word


class Channel(Protocol):
    """The child's end of the line to its parent."""

    def send(self, records: list[Record]) -> None:
        """Hand over records, in order."""

    def poll(self, *, wait: bool = False) -> Word | None:
        """What the parent says: None to go on, or Stop.

        With `wait`: after a stage Go, Halt or Stop; after the last step None to finish, or Stop.
        """
