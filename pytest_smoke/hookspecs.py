"""Hooks for other plugins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_smoke.judge.checks.check import Check
    from pytest_smoke.outcome import Outcome


@pytest.hookspec
def pytest_smoke_checks(config: pytest.Config) -> Sequence[Check]:  # type: ignore[empty-body]  # a hook specification
    """Return further checks to make on every smoke run.

    Called once, when a session with `--smoke` starts. A check that raises becomes a finding `not-checked` with the
    reason `check-raised`, so that the run is `inconclusive`; the session continues. Ids must be new.
    """


@pytest.hookspec
def pytest_smoke_outcome(config: pytest.Config, outcome: Outcome) -> None:
    """Receive the outcome of every smoke run as soon as it is known.

    Called in the process that reports: with pytest-xdist the controller, not the workers. An exception is shown as a
    warning and does not end the session.
    """
