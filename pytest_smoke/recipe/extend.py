"""Recipe files and what they extend: read, refused where unreadable, and merged."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pytest_smoke.errors import Fault, RecipeError
from pytest_smoke.recipe.explain import Keys, Problem, dotted, shown
from pytest_smoke.recipe.mix import anchored
from pytest_smoke.recipe.yaml_document import REFUSED, Document, parse

MAX_BYTES = 2**20
"""A recipe has some 2 KiB; what is larger is another file under the name of one."""
MAX_EXTENDS = 8
"""Recipes one above the other."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sources:
    """A recipe's data, merged, and the files it was written in."""

    documents: tuple[Document, ...]
    """The recipe itself, then what it extends, nearest first."""
    data: dict[str, Any]
    """Mappings merged, nearest wins; lists are replaced whole; without `extends`."""
    faults: tuple[Fault, ...]
    """Faults in the spelling of any of the files."""

    def places(self) -> dict[str, str]:
        """`path:line` of every section and stage, of every key in one, and of every criterion, by dotted key."""
        keys: list[Keys] = [(section,) for section in self.data]
        keys += [(section, key) for section, value in self.data.items() if isinstance(value, dict) for key in value]
        accept = self.data.get("checks", {}).get("accept", [])
        keys += [("checks", "accept", number) for number in range(len(accept))]
        for number, stage in enumerate(self.data.get("stages", [])):
            keys += [("stages", number), *(("stages", number, key) for key in stage)]
        return {dotted(key): f"{path}:{line}" for key in keys for path, line in [self._key_line(key)]}

    def _key_line(self, keys: Keys) -> tuple[str, int]:
        found = ((document.path, document.key_place(keys)) for document in self.documents)
        return next((path, place[0]) for path, place in found if place)

    def fault(self, problem: Problem) -> Fault:
        """The problem at its place: in the nearest file that holds the offending text, else at what encloses it."""
        keys = problem.keys
        while True:
            for document in self.documents:
                at_key = problem.at_key and keys == problem.keys
                place = document.key_place(keys) if at_key else document.value_place(keys)
                if place:
                    return Fault(document.path, *place, problem.text)
            keys = keys[:-1]


def read_sources(file: Path, root: Path) -> Sources:
    """The file and all that it extends. Raises RecipeError if one of them holds no readable mapping."""
    documents: list[Document] = []
    faults: list[Fault] = []
    files: list[Path] = []
    while True:
        path = path_from(file, root)
        files.append(file)
        document, found = _cached(str(file), path, _stamp(file)) if documents else _read(file, path)
        faults += found
        if document is None:
            raise RecipeError(faults)
        documents.append(document)
        if "extends" not in document.data:
            break
        above = document.data["extends"]
        if above is REFUSED:
            raise RecipeError(faults)
        if not isinstance(above, str) or not above:
            raise _extends_error(faults, document, f"extends is {shown(above)}; it must be the path of another recipe")
        file = Path(os.path.normpath(file.parent / above))
        if not file.is_file():
            what = f"extends {above}: there is no file {path_from(file, root)}; the path starts from this file's folder"
            raise _extends_error(faults, document, what)
        again = next((at for at, one in enumerate(files) if one.samefile(file)), None)
        if again is not None:
            names = [one.path for one in documents[again:]]
            what = (
                f"extends {above} comes back to where it started: {' -> '.join([*names, names[0]])}; break the circle"
            )
            raise _extends_error(faults, document, what)
        if len(documents) > MAX_EXTENDS:
            raise _extends_error(faults, document, f"more than {MAX_EXTENDS} recipes extend each other; at most that")
    data: dict[str, Any] = {}
    for document, file in zip(reversed(documents), reversed(files), strict=True):
        data = _merged(data, anchored(document.data, file.parent))
    data.pop("extends", None)
    return Sources(documents=tuple(documents), data=data, faults=tuple(faults))


def path_from(file: Path, root: Path) -> str:
    """The file as a POSIX path from the root; absolute if it lies outside."""
    absolute = os.path.abspath(file)
    base = os.path.join(os.path.abspath(root), "")
    return absolute.removeprefix(base).replace(os.sep, "/")


def _extends_error(faults: list[Fault], document: Document, text: str) -> RecipeError:
    keys: Keys = ("extends",)
    line, column = document.value_place(keys) or (1, 1)
    return RecipeError([*faults, Fault(document.path, line, column, text)])


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _stamp(file: Path) -> tuple[int, int]:
    try:
        state = file.stat()
    except OSError:
        return 0, 0
    return state.st_mtime_ns, state.st_size


@lru_cache(maxsize=64)
def _cached(file: str, path: str, stamp: tuple[int, int]) -> tuple[Document | None, list[Fault]]:
    """As `_read`: thousands of recipes may extend one."""
    return _read(Path(file), path)


def _read(file: Path, path: str) -> tuple[Document | None, list[Fault]]:
    def refused(text: str, line: int = 1, column: int = 1) -> tuple[None, list[Fault]]:
        return None, [Fault(path, line, column, text)]

    try:
        with open(file, "rb", opener=_open_without_waiting) as stream:
            state = os.fstat(stream.fileno())
            if not stat.S_ISREG(state.st_mode):
                return refused("this is not a regular file; a recipe is one")
            if state.st_size > MAX_BYTES:
                return refused(f"the file has {state.st_size} bytes; a recipe has at most {MAX_BYTES}")
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        return refused(f"the file cannot be read: {error.strerror or error}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", errors="replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return refused(f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8", line, column)
    return parse(text, path)


def _open_without_waiting(path: str, flags: int) -> int:
    """A pipe named like a recipe must not hang the session."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
