"""Verdicts of earlier smoke runs of a bisect, kept in `bisect.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from pytest_smoke.bisect.result import BisectResult
from pytest_smoke.environment import DISTRIBUTION, version_of
from pytest_smoke.errors import BisectStateError
from pytest_smoke.files import file_sha256, read_json, strict_json, write_atomic
from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.command import CommandPlan
from pytest_smoke.recipe.diff import UNSEEN
from pytest_smoke.recipe.task_ref import task_source

SCHEMA = 1
"""Version of `bisect.json`; raised when a key changes its meaning or goes away."""
OF_THE_MOMENT = (
    *("crash", "hang", "out-of-memory", "missing-device", "steps-out-of-order", "internal-error"),
    *("interrupted", "edited-during-run"),
)
"""Reasons that may not occur again: such a smoke run is repeated in the next session."""
KEPT = ("verdict", "reason", "step", "text")
DECIDING = (DISTRIBUTION, "torch")
"""Packages whose next version may judge differently."""


def fingerprint(case: Case, *, root: Path, device: str) -> str:
    """Hash what a verdict on `case` depends on: settings, checks, device, versions, and the code.

    The code is the task's own file, or the files that a command names. What these import or read is not included.
    """
    dumped = case.recipe.model_dump()
    full = {key: value for key, value in dumped["full"].items() if key not in UNSEEN}
    path = case.recipe.import_path
    source = task_source(path, root) if path is not None else None
    code = sha256(source.read_bytes()).hexdigest() if source else None
    versions = [version_of(name) for name in DECIDING]
    if case.recipe.command is not None:
        files = map(Path, CommandPlan.of(case, root).sources(root))
        code = sha256("".join(map(file_sha256, files)).encode()).hexdigest()
    whole = [{**dumped, "full": full}, case.mode, device, versions, code]
    return sha256(json.dumps(whole, sort_keys=True, default=repr).encode()).hexdigest()[:16]


class VerdictCache:
    """Verdicts by fingerprint, in memory and, with a `path`, on disk."""

    def __init__(self, path: Path | None) -> None:
        """Read the verdicts in `path`. Raises BisectStateError for any other content, and OSError."""
        self.path = path
        self._verdicts: dict[str, dict[str, Any]] = {}
        self._earlier: frozenset[str] = frozenset()
        if path is not None and path.exists():
            self._verdicts = _read(path)
            self._earlier = frozenset(self._verdicts)

    def __len__(self) -> int:
        return len(self._verdicts)

    def get(self, smoke: str) -> Mapping[str, Any] | None:
        """Return `verdict`, `reason`, `step` and `text` of a known smoke run; None if it is not known."""
        return self._verdicts.get(smoke)

    def from_earlier_session(self, smoke: str) -> bool:
        """Tell whether the verdict is from an earlier session."""
        return smoke in self._earlier

    def put(self, smoke: str, outcome: Outcome) -> Mapping[str, Any]:
        """Keep the verdict of an outcome, and return it."""
        self._verdicts[smoke] = {key: getattr(outcome, key) for key in KEPT}
        return self._verdicts[smoke]

    def write(self, bisected: BisectResult) -> None:
        """Write the state and all verdicts. Raises OSError."""
        if self.path is not None:
            tree = {"schema": SCHEMA, **bisected.to_dict(), "decided": self._lasting()}
            write_atomic(self.path, strict_json(tree, indent=1) + "\n")

    def _lasting(self) -> dict[str, dict[str, Any]]:
        return {smoke: found for smoke, found in self._verdicts.items() if found["reason"] not in OF_THE_MOMENT}


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        tree = read_json(path)
        if tree["schema"] != SCHEMA:
            raise BisectStateError(f"{path} has schema {tree['schema']!r}; this version reads {SCHEMA}; move it away")
        return {str(smoke): {key: found[key] for key in KEPT} for smoke, found in tree["decided"].items()}
    except BisectStateError:
        raise
    except KeyError as error:
        problem = f"the key {error} is missing"
    except (TypeError, AttributeError):
        problem = "it does not hold the expected objects"
    except ValueError as error:  # not UTF-8, or not JSON
        problem = str(error)
    raise BisectStateError(f"{path} is not the state of a bisect ({problem}); move it away")
