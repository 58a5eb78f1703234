"""Verdicts that need not be asked for twice: `bisect.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_smoke.errors import BisectStateError
from pytest_smoke.files import strict_json, write_atomic
from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.diff import UNSEEN
from pytest_smoke.recipe.task_ref import task_source
from pytest_smoke.report.bisect import BisectResult

SCHEMA = 1
"""Version of `bisect.json`; raised when a key changes its meaning or goes away."""
OF_THE_MACHINE = ("crash", "hang", "out-of-memory", "device")
"""Reasons of an `error` that may be gone tomorrow: such a smoke is run again."""
KEPT = ("verdict", "reason", "step", "text")
DECIDING = ("pytest-verdict-smoke", "torch")
"""Distributions whose next version may decide in another way."""


def fingerprint(case: Case, *, root: Path, device: str) -> str:
    """A hash of what a verdict on `case` depends on: settings, checks, device, versions, and the task's own file.

    What the task's file imports or reads is not in it.
    """
    dumped = case.recipe.model_dump()
    full = {key: value for key, value in dumped["full"].items() if key not in UNSEEN}
    source = task_source(case.recipe.task, root)
    code = sha256(source.read_bytes()).hexdigest() if source else None
    versions = [_version(name) for name in DECIDING]
    whole = [{**dumped, "full": full}, case.mode, device, versions, code]
    return sha256(json.dumps(whole, sort_keys=True, default=repr).encode()).hexdigest()[:16]


@cache
def _version(name: str) -> str | None:
    """Looked up once: a Ctrl-C that arrives while the look-up closes its generators is lost."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # run from a checkout
        return None


class VerdictCache:
    """Verdicts by fingerprint, in memory and, with a `path`, on disk."""

    def __init__(self, path: Path | None) -> None:
        """Raises StateError if `path` holds something else, OSError if it cannot be read."""
        self.path = path
        self._verdicts: dict[str, dict[str, Any]] = {}
        self._earlier: frozenset[str] = frozenset()
        if path is not None and path.exists():
            self._verdicts = _read(path)
            self._earlier = frozenset(self._verdicts)

    def __len__(self) -> int:
        return len(self._verdicts)

    def get(self, smoke: str) -> Mapping[str, Any] | None:
        """`verdict`, `reason`, `step` and `text` of a smoke that was decided."""
        return self._verdicts.get(smoke)

    def from_earlier_session(self, smoke: str) -> bool:
        """Whether it was decided in an earlier session."""
        return smoke in self._earlier

    def put(self, smoke: str, outcome: Outcome) -> Mapping[str, Any]:
        """Keep the verdict of an outcome."""
        self._verdicts[smoke] = {key: getattr(outcome, key) for key in KEPT}
        return self._verdicts[smoke]

    def write(self, bisected: BisectResult) -> None:
        """Write what is known so far, whole. Raises OSError."""
        if self.path is not None:
            tree = {"schema": SCHEMA, **bisected.to_dict(), "decided": self._lasting()}
            write_atomic(self.path, strict_json(tree, indent=1) + "\n")

    def _lasting(self) -> dict[str, dict[str, Any]]:
        return {
            smoke: found
            for smoke, found in self._verdicts.items()
            if not (found["verdict"] == "error" and found["reason"] in OF_THE_MACHINE)
        }


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if tree["schema"] != SCHEMA:
            raise BisectStateError(f"{path} has schema {tree['schema']!r}; this version reads {SCHEMA}: move it away")
        return {str(smoke): {key: found[key] for key in KEPT} for smoke, found in tree["decided"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, BisectStateError):
            raise
        raise BisectStateError(f"{path} is no state of a bisect ({error}): move it away") from None
