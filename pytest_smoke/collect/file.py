"""A recipe file as a pytest collector."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pytest_smoke.collect.item import SmokeItem
from pytest_smoke.errors import RecipeError
from pytest_smoke.options import RECIPE_GLOB, allowed_code
from pytest_smoke.plain import plain_name, plain_text
from pytest_smoke.recipe.load import load_cases, path_from


def collector_of(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Return the collector of a recipe file, or of the one file of a bisect; None for any other file."""
    if parent.config.option.smoke_bisect:
        from pytest_smoke.collect.bisect import BisectFile

        return BisectFile.from_parent(parent, path=path)
    if not is_recipe(path, parent.config):
        return None
    # pytest's own id of a file outside the rootdir is empty, or relative to the arguments: two files may share it.
    return RecipeFile.from_parent(parent, path=path, nodeid=plain_name(path_from(path, parent.config.rootpath)))


def is_recipe(path: Path | str, config: pytest.Config) -> bool:
    """Tell whether a file is a recipe by its name, or by its path from the rootdir for a glob with a slash.

    pytest asks for every file of a folder, and once more for each argument in it. So the name decides first, as text.
    """
    text = str(path)
    if fnmatch(os.path.basename(text), RECIPE_GLOB):
        return True
    globs = config.getini("smoke_files")
    if not globs:
        return False
    inside = path_from(Path(config.rootpath, text), config.rootpath)
    return any(fnmatch(inside if "/" in glob else os.path.basename(text), glob) for glob in globs)


class RecipeFile(pytest.File):
    """One `*.smoke.yaml`. It has one item for each of its modes and ablation cells."""

    def collect(self) -> Iterator[SmokeItem]:
        """Yield one item per case. Raises CollectError with every fault of the file."""
        try:
            cases = load_cases(
                self.path,
                root=self.config.rootpath,
                mode=self.config.getoption("smoke_mode"),
                allowed=allowed_code(self.config),
            )
        except RecipeError as error:
            raise self.CollectError(plain_text(str(error))) from None
        for case in cases:
            yield SmokeItem.from_parent(self, name=plain_name(case.name), case=case)
