"""A recipe file as a pytest collector."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pytest_smoke.collect.item import SmokeItem
from pytest_smoke.criteria import parse
from pytest_smoke.errors import RecipeError
from pytest_smoke.options import RECIPE_GLOB
from pytest_smoke.recipe.load import load_cases


def is_recipe(path: Path, config: pytest.Config) -> bool:
    """Whether the file's name (or, for a glob with a slash, its path from the rootdir) is a recipe's."""
    globs = [RECIPE_GLOB, *config.getini("smoke_files")]
    inside = path.relative_to(config.rootpath).as_posix() if path.is_relative_to(config.rootpath) else path.as_posix()
    return any(fnmatch(inside if "/" in glob else path.name, glob) for glob in globs)


class RecipeFile(pytest.File):
    """One `*.smoke.yaml`; its items are its modes times its ablation cells."""

    def collect(self) -> Iterator[SmokeItem]:
        """One item a case. Raises CollectError with every fault of the file."""
        try:
            cases = load_cases(
                self.path, root=self.config.rootpath, mode=self.config.getoption("smoke_mode"), parse_criterion=parse
            )
        except RecipeError as error:
            raise self.CollectError(str(error)) from None
        for case in cases:
            yield SmokeItem.from_parent(self, name=case.name, case=case)
