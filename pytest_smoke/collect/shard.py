"""`--smoke-shard I/N`: each of N sessions runs one shard of the items, whichever order and options they have.

The shard of an item is a digest of its id: another item that is added or removed does not move it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

import pytest

from pytest_smoke.text import count

SLURM = "slurm"
"""Value of the option that takes the shard from the environment of a Slurm task."""
TASK, TASKS = "SLURM_PROCID", "SLURM_NTASKS"
"""Variables that `srun` gives each of its tasks: its number, from 0, and how many there are."""
DESELECTED = "smoke_deselected"
"""Key in what a worker of pytest-xdist tells its controller: how many items are of other shards."""
MAX_SHARDS = 10_000
"""More sessions than the largest clusters have nodes; also keeps the numbers short."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `total` shards of the items; `number` is from 1."""

    number: int
    total: int

    @classmethod
    def of(cls, text: str, environment: Mapping[str, str] = os.environ) -> Self:
        """Return the shard that the option names. Raises UsageError."""
        if text == SLURM:
            task, tasks = (environment.get(name, "") for name in (TASK, TASKS))
            missing = [name for name, value in ((TASK, task), (TASKS, tasks)) if not value]
            if missing:
                raise pytest.UsageError(
                    f"--smoke-shard slurm: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set; "
                    "start pytest with srun, which sets them, or write --smoke-shard I/N"
                )
            number, total = _number(task), _number(tasks)
            if number is None or total is None or not 0 <= number < total <= MAX_SHARDS:
                raise pytest.UsageError(
                    f"--smoke-shard slurm: {TASK} is {task[:20]!r} and {TASKS} is {tasks[:20]!r}; the first must be a "
                    f"whole number from 0, below the second, which may be {MAX_SHARDS:,} at most"
                )
            return cls(number + 1, total)
        first, slash, second = text.partition("/")
        number, total = _number(first), _number(second)
        if not slash or number is None or total is None or not 1 <= number <= total <= MAX_SHARDS:
            raise pytest.UsageError(
                f"--smoke-shard {text[:40]!r}: must be I/N with I from 1 to N, such as 1/4 for the first of four "
                f"sessions, or slurm; N may be {MAX_SHARDS:,} at most"
            )
        return cls(number, total)

    def has(self, item_id: str) -> bool:
        """Tell whether an item is in this shard."""
        digest = sha256(item_id.encode(errors="surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.total == self.number - 1


class ShardOfItems:
    """Deselects the items of other shards. Registered as a plugin."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._deselected = 0

    def pytest_report_header(self) -> str:
        """Name the shard in the header."""
        return f"smoke shard: {self._shard.number} of {self._shard.total}"

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the items of this shard, after `-k` and `-m` have deselected others."""
        others = [item for item in items if not self._shard.has(item.nodeid)]
        if others:
            config.hook.pytest_deselected(items=others)
            items[:] = [item for item in items if self._shard.has(item.nodeid)]
        self._deselected = len(others)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Learn from a worker of pytest-xdist how many items are of other shards."""
        self._deselected = max(self._deselected, int(getattr(node, "workeroutput", {}).get(DESELECTED, 0)))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Pass a session whose shard is empty: other sessions have the items that pytest did not find here."""
        output: Any = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[DESELECTED] = self._deselected
        elif session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self._deselected:
            session.exitstatus = pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say why a session did nothing."""
        if self._deselected and not terminalreporter.stats.keys() - {"deselected", ""}:
            terminalreporter.write_line(f"this shard has no items; other shards have {count(self._deselected, 'item')}")


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None
