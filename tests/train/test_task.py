"""Tasks are loaded by import path; an invalid one raises an error that says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.allowed import AllowedCode
from pytest_smoke.errors import TaskError
from pytest_smoke.task import Task
from pytest_smoke.train.task import NOT_CALLABLE, OPTIONAL, REQUIRED, load_task

TASKS = """
class Good:
    def __init__(self, *, width): self.width = width
    def model(self): ...
    def batches(self, batch_size, *, seed, rank=0, world_size=1): ...
    def losses(self, model, batch): ...

class Misspelt(Good):
    def optimiser(self, model, learning_rate): ...

class Reads(Good):
    def __init__(self, *, width): self.source = "corpus/nad"

class Unsure(Good):
    def source(self, batch): ...

class Both(Misspelt):
    def optimizer(self, model, learning_rate): ...

class Half:
    def model(self): ...

from os import system
from functools import partial
shell = partial(system)
number = 3
made = partial(Good, width=3)
def make(): return made()

import functools, torch
from torch import load
from pytest_smoke.train.pickled import load as unpickle
loader = partial(load, weights_only=False)
cached = functools.lru_cache(make)
wrapped = torch.no_grad()(make)
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module with tasks."""
    (tmp_path / "some_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "some_tasks", raising=False)  # of another test, in another folder
    return "some_tasks"


@pytest.mark.parametrize("name", ["Good", "Both"])
def test_a_task_is_called_with_the_recipes_args(tasks: str, tmp_path: Path, name: str) -> None:
    """A helper with a name like that of a hook is allowed if the task has the hook, too."""
    task: Any = load_task(f"{tasks}:{name}", {"width": 3}, root=tmp_path)
    assert task.width == 3


def test_an_attribute_that_is_no_method_is_not_taken_for_a_misspelt_hook(tasks: str, tmp_path: Path) -> None:
    """`self.source`, a file name, is similar to `sources(batch)`."""
    task: Any = load_task(f"{tasks}:Reads", {"width": 3}, root=tmp_path)
    assert task.source == "corpus/nad"


@pytest.mark.parametrize(
    ("name", "args", "fragments"),
    [
        ("Absent", {}, ["some_tasks.py", "'Absent'"]),
        ("Good", {"widht": 3}, ["some_tasks:Good", "{'widht': 3}", "width"]),
        ("Half", {}, ["not a task", "lacks batches() and losses()"]),
        ("Half", {"width": 3}, ["{'width': 3}"]),
        ("Unsure", {"width": 3}, ["'source'", "did you mean 'sources'"]),
        ("Misspelt", {"width": 3}, ["'optimiser'", "did you mean 'optimizer'"]),
        ("system", {"command": "touch called"}, ["some_tasks:system is system of Python's standard library"]),
        ("shell", {"command": "touch called"}, ["some_tasks:shell is system of Python's standard library"]),
        ("partial", {}, ["is partial of Python's standard library"]),
        ("number", {}, ["some_tasks:number is a int; it must be a class"]),
    ],
)
def test_an_invalid_task_raises_a_task_error_that_says_why(
    tasks: str, tmp_path: Path, name: str, args: dict[str, Any], fragments: list[str]
) -> None:
    with pytest.raises(TaskError) as caught:
        load_task(f"{tasks}:{name}", args, root=tmp_path)
    assert not Path("called").exists()
    assert all(fragment in str(caught.value) for fragment in fragments), str(caught.value)


@pytest.mark.parametrize("name", ["made", "make"])
def test_a_function_and_a_partial_class_make_a_task(tasks: str, tmp_path: Path, name: str) -> None:
    task: Any = load_task(f"{tasks}:{name}", {}, root=tmp_path)
    assert task.width == 3


def test_only_what_is_defined_in_the_rootdir_or_allowed_is_called(tasks: str, tmp_path: Path) -> None:
    """`torch.load` executes what a file contains, and the task's module may have imported it."""
    elsewhere = tmp_path / "elsewhere"
    for reference in (
        f"{tasks}:make",
        f"{tasks}:load",
        f"{tasks}:loader",
        "torch:load",
        "pytest_smoke.train.pickled:load",
    ):
        with pytest.raises(TaskError, match=r"is (outside pytest's rootdir|part of pytest_smoke)"):
            load_task(reference, {}, root=elsewhere)
    for name in ("load", "loader", "unpickle"):
        with pytest.raises(TaskError, match=r"which is (outside pytest's rootdir|part of pytest_smoke)"):
            load_task(f"{tasks}:{name}", {}, root=tmp_path)
    with pytest.raises(TaskError, match="not take the recipe's args"):
        load_task("torch:load", {}, root=elsewhere, allowed=AllowedCode(tasks=("torch",)))
    task: Any = load_task(f"{tasks}:make", {}, root=elsewhere, allowed=AllowedCode(tasks=("some_*",)))
    assert task.width == 3


@pytest.mark.parametrize("name", ["cached", "wrapped"])
def test_a_decorated_function_of_the_rootdir_makes_a_task(tasks: str, tmp_path: Path, name: str) -> None:
    task: Any = load_task(f"{tasks}:{name}", {}, root=tmp_path)
    assert task.width == 3


def test_a_class_with_the_methods_of_a_task_may_be_imported_from_elsewhere(tasks: str, tmp_path: Path) -> None:
    task: Any = load_task(f"{tasks}:Good", {"width": 4}, root=tmp_path / "elsewhere")
    assert task.width == 4


def test_the_protocol_describes_every_hook_and_no_other() -> None:
    assert Task.__doc__ is not None
    described = [line.strip().lstrip("`") for line in Task.__doc__.splitlines() if line.startswith("    `")]
    names = {line.split("(")[0].split(":")[0] for line in described}
    assert names == set(OPTIONAL)
    assert set(NOT_CALLABLE) < set(OPTIONAL)
    assert {name for name in vars(Task) if callable(getattr(Task, name)) and not name.startswith("_")} == set(REQUIRED)


def test_importing_the_protocol_imports_no_torch() -> None:
    code = "import sys, pytest_smoke; pytest_smoke.Task; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
