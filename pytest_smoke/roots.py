"""The folder from which tasks are imported: pytest's own rule for its rootdir, for commands that run without pytest."""

from __future__ import annotations

import re
from pathlib import Path

OF_PYTEST = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini")
"""Files that make a folder pytest's rootdir, whatever is in them."""
SECTIONS = {"pyproject.toml": "", "tox.ini": "pytest", "setup.cfg": "tool:pytest"}
"""Files that do so if they configure pytest, with the section that does. A `pyproject.toml` without one counts where
no file configures pytest, and `setup.py` where there is none of them."""
ROOT_FILES = (*OF_PYTEST, *SECTIONS)
INSTALLED = ("site-packages", "dist-packages")
"""Folders of installed packages, which may be below the rootdir, in a virtual environment."""


def is_installed(path: Path | str) -> bool:
    """Tell whether a file belongs to an installed package, and not to the project."""
    return not set(INSTALLED).isdisjoint(Path(path).parts)


def root_above(path: Path) -> Path | None:
    """Return the nearest folder at or above `path` that pytest takes for its rootdir; None if there is none.

    See "Finding the rootdir" in pytest's documentation.
    """
    absolute = path.resolve()
    folders = [absolute, *absolute.parents] if absolute.is_dir() else list(absolute.parents)
    for folder in folders:
        if any(_configures_pytest(folder / name) for name in ROOT_FILES):
            return folder
    for mark in ("pyproject.toml", "setup.py"):
        for folder in folders:
            if (folder / mark).is_file():
                return folder
    return None


def _configures_pytest(file: Path) -> bool:
    if not file.is_file():
        return False
    if file.name in OF_PYTEST:
        return True
    import tomllib  # only commands need it, and the plugin imports this module

    try:
        text = file.read_text(encoding="utf-8")
        if file.name != "pyproject.toml":
            return re.search(rf"^\[{SECTIONS[file.name]}\]", text, re.MULTILINE) is not None
        table = tomllib.loads(text).get("tool", {}).get("pytest", {})
    except (OSError, ValueError, AttributeError):  # pytest refuses to run with such a file
        return False
    return bool(table)


def task_root(recipe: Path) -> Path:
    """Return the folder that the recipe's task is imported from: what pytest takes for its rootdir, given this recipe.

    Without a configuration file or `setup.py` above the recipe, that is the nearest folder which has both the recipe
    and the current folder below it; the recipe's own one if only the root of the file system has both.
    """
    folder, here = recipe.resolve().parent, Path.cwd()
    if (root := root_above(folder)) is not None:
        return root
    shared = next((parent for parent in (here, *here.parents) if folder.is_relative_to(parent)), folder)
    return shared if shared != Path(shared.anchor) else folder
