"""Build what a recipe's `hf` or `lightning` names."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
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
    importlib.import_module(plan.task.partition(":")[0])  # before seeding, so that libraries it imports are seeded too
    seed_all(plan.seed)
    return call_factory(plan.task, plan.args, key=plan.trainer)
