"""Build what a recipe's `hf` or `lightning` names."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pytest_smoke.errors import TaskError
from pytest_smoke.train.device import seed_all
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.task import call_factory


def require(packages: Sequence[str], key: str) -> None:
    """Raise TaskError if none of the packages is installed that the recipe key `key` needs, and say how to install."""
    if not any(map(importlib.util.find_spec, packages)):
        raise TaskError(
            f"the recipe key {key} needs {packages[0]}, which is not installed: pip install "
            f"'pytest-verdict-smoke[{key}]'",
            key=key,
        )


def built(plan: RunPlan) -> Any:
    """Seed all generators and call the plan's factory. Raises TaskError, and whatever the factory raises."""
    if plan.root not in sys.path:
        sys.path.insert(0, plan.root)
    with _without_command_line(plan.task, plan.trainer):
        # Before seeding, so that libraries it imports are seeded too.
        importlib.import_module(plan.task.partition(":")[0])
        seed_all(plan.seed)
        return call_factory(plan.task, plan.args, key=plan.trainer, root=Path(plan.root), allowed=plan.allowed)


@contextlib.contextmanager
def _without_command_line(reference: str, key: str) -> Iterator[None]:
    """Hide the command line, which is pytest's, from a script that parses its own. Raises TaskError if it exits."""
    before = sys.argv
    sys.argv = [f"{reference.partition(':')[0].replace('.', '/')}.py"]
    try:
        yield
    except SystemExit as error:
        raise TaskError(
            f"{reference} exited instead of returning. A smoke run has no command line to parse: give every option a "
            f"default, or make it an argument of the function; sys.exit({'' if error.code is None else error.code!r}) "
            "was called",
            key=key,
        ).with_traceback(error.__traceback__) from None
    finally:
        sys.argv = before
