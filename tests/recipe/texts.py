"""Recipe texts and helpers that several test modules share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pytest_smoke.errors import Fault, RecipeError
from pytest_smoke.recipe.load import load_recipe
from pytest_smoke.recipe.model import Recipe

Faults = Callable[..., list[str]]
GOOD = """\
task: a_task:Task
args: {hidden_size: 64}
full:
  batch_size: 16
  grad_accum_steps: 8
  learning_rate: 5.0e-4
  warmup_steps: 1000
  max_steps: 50000
smoke:
  max_steps: 2500
"""
HEAD = "task: a_task:Task\n"
FULL = "full: {batch_size: 8, learning_rate: 1.0e-3, max_steps: 100}\n"
SMOKE = "smoke: {max_steps: 100}\n"


def attempt(path: Path, root: Path) -> tuple[Recipe | None, tuple[Fault, ...]]:
    """Return the recipe or its faults; any other exception passes through."""
    try:
        return load_recipe(path, root=root), ()
    except RecipeError as error:
        return None, error.faults


def check(fault: str, fragments: list[str]) -> None:
    """Assert that all fragments are in the fault, and that it starts with the first one if that is a place."""
    for fragment in fragments:
        assert fragment in fault
    if fragments[0][0].isdigit():
        assert fault.startswith(fragments[0]), fault
