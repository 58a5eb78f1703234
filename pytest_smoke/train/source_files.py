"""Which of a project's files a training process has imported."""

from __future__ import annotations

import sys
from pathlib import Path

from pytest_smoke.events import SourceFiles
from pytest_smoke.files import file_sha256

OWN = Path(__file__).parents[1]
"""Folder of this package, which is below the rootdir in its own repository."""
INSTALLED = ("site-packages", "dist-packages")
"""Folders of installed packages, which may be below the rootdir, in a virtual environment."""


def source_files(root: str) -> SourceFiles:
    """Return the source files below `root` of all modules that are imported now.

    Without installed packages and this one, which are not the user's code: an outcome has their versions.
    """
    checksums: dict[str, str] = {}
    for module in list(sys.modules.values()):
        file = vars(module).get("__file__") if isinstance(module, type(sys)) else None
        if not isinstance(file, str) or not file.endswith(".py"):
            continue
        path = Path(file).absolute()
        if not path.is_relative_to(root) or path.is_relative_to(OWN) or any(part in INSTALLED for part in path.parts):
            continue
        try:
            checksums[str(path)] = file_sha256(path)
        except OSError:
            checksums[str(path)] = ""  # deleted since it was imported
    return SourceFiles(checksums)
