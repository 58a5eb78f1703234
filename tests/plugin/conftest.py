"""A user project with a task that trains in one second."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TASKS = Path(__file__).parents[1] / "controls" / "tasks.py"

RECIPE = """\
task: tasks:Teacher
full:
  batch_size: 64
  learning_rate: 3.0e-3
  warmup_steps: 20
  max_steps: 20000
smoke:
  max_steps: 400
"""


def hear_ctrl_c() -> None:
    """Undo, as `preexec_fn`, that a shell script starts its background jobs with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Project:
    """A folder with `tasks.py`; writes recipes into it and runs pytest there."""

    def __init__(self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.run = run
        (self.path / "tasks.py").write_text(TASKS.read_text())
        pytester.makeini("[pytest]\n")

    def recipe(self, name: str = "good", extra: str = "", *, base: str = RECIPE) -> Path:
        """Write `name.smoke.yaml`: a recipe that is promoted, followed by `extra`."""
        path = self.path / f"{name}.smoke.yaml"
        path.write_text(base + extra)
        return path

    def extending(self, name: str, text: str, *, of: str = "good") -> Path:
        """Write `name.smoke.yaml`, which extends the recipe `of` with `text`."""
        path = self.path / f"{name}.smoke.yaml"
        path.write_text(f"extends: {of}.smoke.yaml\n{text}")
        return path

    def verdicts(self, folder: str = "out") -> list[dict[str, Any]]:
        """Return the outcomes in `verdicts.json`, read as strict JSON."""

        def refuse(constant: str) -> Any:
            raise AssertionError(f"{constant} is not JSON")

        tree = json.loads((self.path / folder / "verdicts.json").read_text(), parse_constant=refuse)
        assert tree["schema"] == 1
        outcomes: list[dict[str, Any]] = tree["outcomes"]
        return outcomes


@pytest.fixture
def project(
    pytester: pytest.Pytester, run_pytest: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> Project:
    """Return a user project in an empty folder."""
    monkeypatch.setenv("COLUMNS", "600")  # wide enough that no message wraps
    return Project(pytester, run_pytest)
