"""Compares the files of a smoke run at its end with what was read at its start."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from pytest_smoke.errors import BaselineError
from pytest_smoke.events import SourceFiles
from pytest_smoke.files import file_sha256
from pytest_smoke.monitor.baseline import read_baseline
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.task_ref import task_source
from pytest_smoke.roots import is_installed

SHA_BYTES = 2**26
"""Data files up to this size are compared by their content (0.1 s), larger ones by size and time of change."""
SETTLED_NS = 3 * 10**9
"""Age from which a file's times tell that it has not changed since: file systems count them in steps of up to 2 s."""


class Sources:
    """What a smoke run is made of: the recipe's files, the task's module, the corpus, the baseline."""

    def __init__(self, case: Case, *, root: Path, item_id: str) -> None:
        self._case, self._root, self._item_id = case, root, item_id
        self._corpus = Path(case.recipe.mix.corpus) if case.recipe.mix and case.recipe.mix.corpus else None
        self._corpus_stamp = _stamp(self._corpus)
        path = case.recipe.import_path
        module = task_source(path, root) if path is not None else None
        self._known = {**case.checksums, **({str(module): _checksum_before(str(module))} if module is not None else {})}

    def edited_recipe(self) -> list[str]:
        """Return the recipe's files that differ from what was read when it was collected."""
        return self._different(self._case.checksums)

    def edited(self, imported: Sequence[SourceFiles], baseline: Mapping[str, float] | None) -> list[str]:
        """Return the files that differ from what was read, as paths from the root.

        `imported`: what the training process reported, in order; `baseline`: the values that were read from it.
        """
        known = dict(self._known)
        for event in imported:
            known = {**event.checksums, **known}
        return [*self._different(known), *self._edited_data(baseline)]

    def files(self, imported: Sequence[SourceFiles]) -> dict[str, str]:
        """Return the SHA-256 of the source files below the root by path from it, as they were when they were read.

        `imported`: as for `edited`. Recipes and configs are not among them: what they say counts, not their text.
        """
        known = {path: checksum for path, checksum in self._known.items() if path not in self._case.checksums}
        for event in imported:
            known = {**event.checksums, **known}
        base = os.path.join(os.path.abspath(self._root), "")
        below = {
            path: checksum
            for path, checksum in known.items()
            if path.startswith(base) and checksum and not is_installed(path)
        }
        configs = {os.path.join(base, config.file.path) for config in self._case.configs.values()}
        return {self._shown(path): checksum for path, checksum in sorted(below.items()) if path not in configs}

    def _different(self, known: Mapping[str, str]) -> list[str]:
        return [self._shown(path) for path, checksum in known.items() if _checksum(path) != checksum]

    def _edited_data(self, baseline: Mapping[str, float] | None) -> Iterator[str]:
        if self._corpus is not None and _stamp(self._corpus) != self._corpus_stamp:
            yield self._shown(str(self._corpus))
        if baseline is None:
            return
        try:  # its values, not its text: a session that writes the file again may leave this outcome as it was
            now = read_baseline(self._case, root=self._root, item_id=self._item_id)
        except BaselineError:
            now = {}
        if repr(sorted(now.items())) != repr(sorted(baseline.items())):  # NaN is not equal to itself
            yield str(self._case.recipe.checks.baseline)

    def _shown(self, path: str) -> str:
        base = os.path.join(os.path.abspath(self._root), "")
        return Path(path.removeprefix(base)).as_posix()


def _checksum(path: str) -> str:
    """Return the SHA-256 of a file; empty if it cannot be read."""
    try:
        return file_sha256(path)
    except OSError:
        return ""


def _checksum_before(path: str) -> str:
    """Return the SHA-256 of a file before a run, which thousands of runs of one session may share.

    It is not read again if nothing has changed it for some time. What the run has used is compared at its end, with
    what is read then.
    """
    try:
        state = os.stat(path)
    except OSError:
        return ""
    if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) < SETTLED_NS:
        return _checksum(path)
    return _settled_checksum(path, (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


@lru_cache(maxsize=256)
def _settled_checksum(path: str, _state: tuple[int, ...]) -> str:
    return _checksum(path)


def _stamp(path: Path | None) -> str:
    """Return what changes with a data file, or with a folder of them; empty for None."""
    if path is None:
        return ""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    parts = []
    for file in files:
        try:
            state = file.stat()
        except OSError:
            parts.append(f"{file} missing")
            continue
        small = path == file and state.st_size <= SHA_BYTES
        parts.append(f"{file} {state.st_size} {_checksum(str(file)) if small else state.st_mtime_ns}")
    return sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()
