"""The code that a recipe may name: what is in pytest's rootdir, and what the project's ini keys allow."""

from __future__ import annotations

import os
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from pytest_smoke.errors import SmokeError
from pytest_smoke.roots import ROOT_FILES, is_installed

TASKS_KEY = "smoke_allow_tasks"
"""Ini key: globs of modules and packages outside the rootdir that a recipe may name."""
COMMANDS_KEY = "smoke_allow_commands"
"""Ini key: whether a recipe may have the key `command`."""
OURS = "pytest_smoke"
"""This package. It has functions that unpickle, and no task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedCode:
    """What a recipe may name besides the classes and functions of the rootdir."""

    tasks: tuple[str, ...] = ()
    """Globs of modules outside the rootdir; one that matches a package allows all modules in it."""
    commands: bool = True
    """Whether recipes may have the key `command`, which starts any program."""
    named_in_python: bool = False
    """Whether Python code named the task, as a test does with the fixture `smoke`: then nothing is refused."""

    def allows_module(self, module: str, file: str | Path | None, root: str | Path) -> bool:
        """Tell whether a recipe may name what is defined in `module`, which was found in `file` (None: in no file)."""
        if self.named_in_python:
            return True
        parts = module.split(".")
        if parts[0] == OURS:
            return False
        if file is not None and is_in_project(file, root):
            return True
        names = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
        return any(fnmatchcase(name, glob) for glob in self.tasks for name in names)


PROJECT_ONLY = AllowedCode()
"""For recipes of a project without these ini keys."""
PYTHON = AllowedCode(named_in_python=True)
"""For tasks that Python code names."""


def is_in_project(file: str | Path, root: str | Path) -> bool:
    """Tell whether a file is below the rootdir, and not in an environment there.

    A symbolic link counts as part of the folder that it is in: whoever can make one can also write a module.
    """
    absolute, base = os.path.abspath(file), os.path.join(os.path.abspath(root), "")
    if not absolute.startswith(base):
        absolute, base = os.path.realpath(file), os.path.join(os.path.realpath(root), "")
    return absolute.startswith(base) and not is_installed(absolute.removeprefix(base))


def outside_fault(module: str, file: str | Path | None, root: str | Path) -> str:
    """Say that a module is outside the rootdir, and how to allow it."""
    if module.partition(".")[0] == OURS:
        return f"is part of {OURS}, which has no task; name a class or function of your own"
    place = f" ({file})" if file else ""
    return (
        f"is outside pytest's rootdir {root}{place}; a recipe may name it if the project's ini file allows it: "
        f"{TASKS_KEY} = {module}"
    )


def allowed_by_files(root: Path) -> AllowedCode:
    """Return what the ini file in `root` allows, as a session of pytest with this rootdir reads it.

    Raises SmokeError if one of the keys has another form.
    """
    stamps = tuple((name, _stamp(root / name)) for name in ROOT_FILES)
    return _read(str(root), tuple(stamp for stamp in stamps if stamp[1] is not None))


@lru_cache(maxsize=16)
def _read(root: str, files: tuple[tuple[str, tuple[int, int] | None], ...]) -> AllowedCode:
    """Read the first of the files that configures pytest. The stamps in `files` change with them."""
    for name, _ in files:
        keys = _keys_of(Path(root, name))
        if keys is not None:
            return _allowed(keys, Path(root, name))
    return AllowedCode()


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        state = os.stat(file)
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


def _keys_of(file: Path) -> Mapping[str, Any] | None:
    """Return pytest's ini keys in a file; None if it does not configure pytest, or if pytest could not read it."""
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".toml":
            tree = tomllib.loads(text)
            if "pytest" in file.name:
                return dict(tree.get("pytest", {}))
            tool = tree.get("tool", {}).get("pytest", {})
            return {**tool.get("ini_options", {}), **tool} if tool else None
        from iniconfig import IniConfig, ParseError
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return None
    try:
        sections = IniConfig(str(file), data=text).sections
    except ParseError:
        return None
    section = sections.get("tool:pytest" if file.name == "setup.cfg" else "pytest")
    return section if section is not None else {} if "pytest" in file.name else None


def _allowed(keys: Mapping[str, Any], file: Path) -> AllowedCode:
    tasks, commands = keys.get(TASKS_KEY, []), keys.get(COMMANDS_KEY, True)
    try:
        globs = shlex.split(tasks, comments=True) if isinstance(tasks, str) else list(tasks)
        if not all(isinstance(glob, str) for glob in globs):
            raise TypeError
    except (ValueError, TypeError):
        raise SmokeError(f"{file}: {TASKS_KEY} must list globs of modules, such as: company.tasks.*") from None
    known = {"1": True, "yes": True, "true": True, "on": True, "0": False, "no": False, "false": False, "off": False}
    allowed = known.get(str(commands).lower())
    if allowed is None:
        raise SmokeError(f"{file}: {COMMANDS_KEY} = {commands}: must be true or false")
    return AllowedCode(tasks=tuple(globs), commands=allowed)
