"""The folder from which tasks are imported: pytest's own rule for its rootdir, for commands that run without pytest."""

from __future__ import annotations

from pathlib import Path

ROOT_FILES = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
"""Files that make a folder pytest's rootdir; `setup.py` is asked for only where none of them is found."""

INSTALLED = ("site-packages", "dist-packages")
"""Folders of installed packages, which may be below the rootdir, in a virtual environment."""


def is_installed(path: Path | str) -> bool:
    """Tell whether a file belongs to an installed package, and not to the project."""
    return not set(INSTALLED).isdisjoint(Path(path).parts)


def root_above(path: Path) -> Path | None:
    """Return the nearest folder at or above `path` that pytest takes for its rootdir; None if there is none.

    See "Finding the rootdir" in pytest's documentation. A file in `ROOT_FILES` counts whatever is in it.
    """
    absolute = path.resolve()
    folders = [absolute, *absolute.parents] if absolute.is_dir() else list(absolute.parents)
    for marks in (ROOT_FILES, ("setup.py",)):
        for folder in folders:
            if any((folder / mark).is_file() for mark in marks):
                return folder
    return None


def task_root(recipe: Path) -> Path:
    """Return the folder that the recipe's task is imported from: pytest's rootdir above it, else the current folder."""
    return root_above(recipe.resolve().parent) or Path.cwd()
