"""The modules of a project that its scripts import, found without executing anything."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from modulefinder import ModuleFinder

from pytest_smoke.roots import is_installed


def imported_files(
    scripts: Collection[str], modules: Collection[str], *, folders: Sequence[str], root: str
) -> set[str]:
    """Return the files below `root` that scripts, and modules that are run by name, consist of and import.

    Import statements are followed, wherever they are in a file; what is imported by a computed name is not found.
    `folders`: where modules are looked for, besides the folder of each script. A file that cannot be parsed counts,
    and what it imports does not.
    """
    base = os.path.join(os.path.abspath(root), "")
    found = set(scripts)
    for script in scripts:
        found |= _imported(script, is_script=True, folders=[os.path.dirname(script), *folders])
    for module in modules:
        found |= _imported(module, is_script=False, folders=folders)
    return {path for path in found if path.startswith(base) and not is_installed(path)}


def _imported(name: str, *, is_script: bool, folders: Sequence[str]) -> set[str]:
    finder = ModuleFinder(path=[folder for folder in folders if os.path.isdir(folder)])
    with suppress(Exception):  # the file is missing or is not Python: what was found before it counts
        finder.run_script(name) if is_script else finder.import_hook(name)
    files = (getattr(module, "__file__", None) for module in finder.modules.values())
    return {os.path.abspath(file) for file in files if isinstance(file, str)}
