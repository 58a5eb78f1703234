"""Where a smoke run happens: versions of packages, and the commit of the project."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "pytest-verdict-smoke"
PACKAGES = (DISTRIBUTION, "pytest", "torch")
"""Packages whose version can change a verdict."""
GIT_TIMEOUT_SECONDS = 5.0


@cache
def version_of(package: str) -> str | None:
    """Return the version of an installed distribution; None if it is not installed.

    Looked up once per session: `importlib.metadata` loses a Ctrl-C that arrives while it closes its generators.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        return None


def versions() -> dict[str, str]:
    """Return the versions of Python and of `PACKAGES`."""
    found = {name: version_of(name) for name in PACKAGES}
    return {"python": platform.python_version(), **{name: text for name, text in found.items() if text is not None}}


def in_github_workflow() -> bool:
    """Tell whether GitHub's runner reads what this process prints."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


@cache
def repository_folder(root: Path) -> str | None:
    """Return `root` as a path below the root of its git repository; None if it is that root, or in no repository."""
    top = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)
    return root.relative_to(top).as_posix() if top != root else None


@cache
def git_commit(root: Path) -> str | None:
    """Return the commit of the repository around `root`, with `-dirty` if tracked files changed; None without one."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
