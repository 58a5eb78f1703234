"""What executes the smoke runs of a session elsewhere than in its own process, and what both sides tell each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_smoke.monitor.smoke import RunOptions, SmokeResult
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A smoke run that is to be executed."""

    item_id: str
    case: Case
    options: RunOptions
    forced_mode: Mode | None
    """Mode that the session runs every recipe in; None: the recipe's own."""


class Executor(Protocol):
    """Executes smoke runs somewhere. Results come in the order in which the runs end."""

    def submit(self, requests: Sequence[Request]) -> str:
        """Start all runs, and return a sentence on where. Raises SmokeError if that is not possible."""

    def next_ended(self) -> SmokeResult | None:
        """Wait for the next run that ends, and return its result. None: there are no more."""

    def cancel(self) -> list[SmokeResult]:
        """End all runs; return the results of those that had started."""
