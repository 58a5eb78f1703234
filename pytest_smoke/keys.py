"""What the plugin keeps on pytest's objects, all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_smoke.outcome import Outcome
    from pytest_smoke.report.bisect import BisectResult

OUTCOMES: pytest.StashKey[list[Outcome]] = pytest.StashKey()
"""On an item: the smokes it conducted, in order."""

BISECT_RESULT: pytest.StashKey[BisectResult] = pytest.StashKey()
"""On a bisect's item: what it found."""
