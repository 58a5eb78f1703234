"""A folder with a task, and recipes written into it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_smoke.errors import RecipeError
from pytest_smoke.recipe.load import load_cases


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root folder whose module `a_task` has a `Task`, which takes any arguments."""
    (tmp_path / "a_task.py").write_text("class Task:\n    def __init__(self, **args): ...\n")
    return tmp_path


@pytest.fixture
def faults(root: Path) -> Callable[..., list[str]]:
    """Write a recipe as `r.smoke.yaml` and return its faults as `line:col: text`."""

    def of(text: str | bytes, name: str = "r.smoke.yaml") -> list[str]:
        path = root / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        try:
            load_cases(path, root=root)
        except RecipeError as error:
            return [str(fault).removeprefix(f"{name}:") for fault in error.faults]
        return []

    return of
