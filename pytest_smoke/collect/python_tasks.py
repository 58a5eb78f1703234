"""Bring a task that a test has as an object to the training process: by its import path, or pickled."""

from __future__ import annotations

import functools
import inspect
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_smoke.allowed import PYTHON
from pytest_smoke.errors import TaskError
from pytest_smoke.plain import exception_text
from pytest_smoke.recipe.task_ref import task_fault
from pytest_smoke.train.pickled import REFERENCE

METHODS = ("model", "batches", "losses")
"""Methods of every task: an object with all of them is a task, any other callable makes one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentTask:
    """How the training process gets a task."""

    name: str
    """What messages call it."""
    reference: str
    """Import path of a class or function."""
    args: dict[str, Any]
    """Keyword arguments for it."""


def send_task(task: Any, args: Mapping[str, Any], *, folder: Path, root: Path) -> SentTask:
    """Return how the training process gets `task`: a task, or a class or function that returns one for `args`.

    Classes and functions at the top level of a module are imported there; everything else is pickled to `folder`.
    Raises TaskError if neither is possible.
    """
    args = dict(args)
    while isinstance(task, functools.partial) and not task.args:
        task, args = task.func, {**task.keywords, **args}
    is_factory = inspect.isclass(task) or not all(callable(getattr(task, method, None)) for method in METHODS)
    if is_factory and not callable(task):
        missing = [f"{method}()" for method in METHODS if not callable(getattr(task, method, None))]
        raise TaskError(f"an object of type {type(task).__name__} is not a task: it lacks {', '.join(missing)}")
    name = str(getattr(task, "__name__", type(task).__name__))
    if not is_factory and args:
        raise TaskError(f"args={args} cannot be given to {name}: it is a task already; give its class and args")
    if is_factory and _is_at_top_level(task):
        reference = f"{task.__module__}:{task.__qualname__}"
        _check_import(reference, name, root)
        return SentTask(name=name, reference=reference, args=args)
    definition = task
    while isinstance(definition, functools.partial):
        definition = definition.func
    if not inspect.isclass(definition) and not inspect.isroutine(definition):
        definition = type(definition)
    if _is_at_top_level(definition):
        _check_import(f"{definition.__module__}:{definition.__qualname__}", name, root)
    try:
        pickled = pickle.dumps((is_factory, task))
    except Exception as error:  # whatever the objects in it raise
        raise TaskError(
            f"{name} cannot be sent to the training process ({exception_text(error)}): define its class or function at "
            "the top level of a module, and give what it needs in args="
        ) from None
    path = folder / "task.pickle"
    path.write_bytes(pickled)
    return SentTask(name=name, reference=REFERENCE, args={**args, "path": str(path)})


def _is_at_top_level(definition: Any) -> bool:
    """Whether a class or function is what its module has under its name."""
    name, module = getattr(definition, "__qualname__", None), getattr(definition, "__module__", None)
    return name is not None and getattr(sys.modules.get(str(module)), name, None) is definition


def _check_import(reference: str, name: str, root: Path) -> None:
    """Raise TaskError if the training process could not import what is imported here."""
    module = reference.partition(":")[0]
    if module == "__main__" or (fault := task_fault(reference, root, allowed=PYTHON)) is not None:
        cause = "it is defined in __main__" if module == "__main__" else fault
        raise TaskError(
            f"{name} cannot be imported in the training process ({cause}): define it in a module on sys.path, or run "
            "pytest with --import-mode=prepend"
        )
