"""Everything that the plugin keeps on pytest's objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_smoke.bisect.result import BisectResult
    from pytest_smoke.collect.progress import SessionProgress
    from pytest_smoke.judge.checks.registry import Registry
    from pytest_smoke.monitor.smoke import SmokeResult
    from pytest_smoke.outcome import Outcome
    from pytest_smoke.receipts.receipt import Receipt

OUTCOMES: pytest.StashKey[list[Outcome]] = pytest.StashKey()
"""On an item: the outcomes of its smoke runs that are not on a report yet, in order. pytest keeps all items until the
session ends."""

RUNS: pytest.StashKey[int] = pytest.StashKey()
"""On an item: how many smoke runs it has executed."""

RECEIPT: pytest.StashKey[Receipt | None] = pytest.StashKey()
"""On a recipe's item: the receipt of its newest smoke run, until it is on a report."""

BISECT_RESULT: pytest.StashKey[BisectResult] = pytest.StashKey()
"""On a bisect's item: its result."""

REGISTRY: pytest.StashKey[Registry] = pytest.StashKey()
"""On the config: the checks of the session, with those of other plugins."""

EXECUTED: pytest.StashKey[SmokeResult] = pytest.StashKey()
"""On an item: the result of its smoke run, which an executor has executed already."""

PROGRESS: pytest.StashKey[SessionProgress] = pytest.StashKey()
"""On the config: what shows the runs of the session."""

SUMMARY = "smoke-summary"
"""Name under which the plugin that collects outcomes is registered."""
