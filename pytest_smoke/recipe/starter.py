"""A commented recipe and its task, small enough to run as written: what `python -m pytest_smoke init` leaves behind."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pytest_smoke.recipe.starter_text import RECIPE, TASK

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


ROOT_MARKS = ("pytest.ini", ".pytest.ini", "pytest.toml", "pyproject.toml", "tox.ini", "setup.cfg", "setup.py")
"""Files by which pytest finds its rootdir, from which a task is imported."""


def package_of(folder: Path) -> str:
    """`recipes.` for the folder `recipes` in the nearest folder that pytest takes for its rootdir; else empty."""
    folder = folder.resolve()
    for root in (folder, *folder.parents):
        if any((root / mark).is_file() for mark in ROOT_MARKS):
            return "".join(f"{part}." for part in folder.relative_to(root).parts)
    return ""


def write_starter(folder: Path, name: str) -> list[Path]:
    """Write `NAME.smoke.yaml` and `NAME_task.py` into `folder`, and return their paths.

    The task's import path starts at the folder that pytest will take for its rootdir.
    Raises ValueError for a name that cannot be a Python module, FileExistsError if either file is there (nothing is
    written then), NotADirectoryError if the folder is not.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"the name {name!r} cannot be part of a Python module's; use a-z, 0-9 and _, a letter first")
    if not folder.is_dir():
        raise NotADirectoryError(f"there is no folder {folder}; make it first")
    texts = {folder / f"{name}_task.py": TASK, folder / f"{name}.smoke.yaml": RECIPE}
    there = [str(path) for path in texts if os.path.lexists(path)]
    if there:
        raise FileExistsError(f"{' and '.join(there)} already there; init overwrites nothing: name it otherwise")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    written: list[Path] = []
    for path, text in texts.items():
        text = text.replace("@PACKAGE@", package_of(folder)).replace("@NAME@", name).replace("@CLASS@", class_name)
        _write_new(path, text)
        written.append(path)
    return written[::-1]


def _write_new(path: Path, text: str) -> None:
    """Write beside, then rename, so that the file appears whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(beside, "x", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
    os.rename(beside, path)
