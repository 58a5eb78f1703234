"""Find the newest checkpoint of a run at or before a step, by the names that trainers give them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (
    *("", ".pt", ".pth", ".ckpt", ".safetensors", ".bin", ".npz", ".msgpack", ".pkl", ".tar", ".h5", ".keras"),
    *(".pth.tar", ".distcp", ".index", ".params", ".weights.h5"),
)
"""Ends of the names of checkpoints; a folder has none."""
MAX_ENTRIES = 100_000
"""Files and folders that are looked at."""
MAX_SECONDS = 20.0
"""Longest search, as on a slow network file system."""
MAX_DEPTH = 5
"""Folders below the one that is searched, one in the other."""
_NOT_SEARCHED = ("node_modules", "__pycache__", "site-packages")
_STEP = re.compile(
    r"(?<![a-z])(?:global[-_ ]?step|step|iteration|iter|it|updates?)s?[-_=. ]*(\d+)(?!\d)", re.IGNORECASE
)
"""`step_500`, `epoch=1-step=500`, `global_step500`, `iter_0000500`."""
_NAMED = re.compile(
    r"(?<![a-z])(?:checkpoint|ckpt|chkpt|model|weights|snapshot|state)s?[-_=. ]*(?:\d+_)?(\d+)(?![\d.]*\d)",
    re.IGNORECASE,
)
"""`checkpoint-500`, `ckpt_500`, `model_500`, and `checkpoint_2_500` with an epoch before the step."""
_LEADING = re.compile(r"^(\d+)_(?:adapters?|model|weights|checkpoint|ckpt)", re.IGNORECASE)
"""`0000500_adapters`."""
_HOLDS_CHECKPOINTS = re.compile(r"checkpoint|ckpt", re.IGNORECASE)
"""A folder of this name may hold checkpoints whose names are nothing but the step."""
_SHARD = re.compile(r"\d+[-_]of[-_]\d+", re.IGNORECASE)
_UNFINISHED = re.compile(r"^(?:tmp|temp|\.)|(?:tmp|temp|partial|incomplete|lock)$", re.IGNORECASE)
_EPOCH = re.compile(r"epoch|ep(?=[-_=.]?\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A file or folder that is called like a checkpoint."""

    path: Path
    step: int
    modified: float
    """Time of its last change, in seconds since the epoch."""


def step_of(name: str, folder: str = "") -> int | None:
    """Return the step in the name of a checkpoint; None for a name that is not one, or has only an epoch.

    `folder` is the name of the folder that it is in.
    """
    suffix = next((end for end in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(end)), "")
    stem = name[: len(name) - len(suffix)]
    if _UNFINISHED.search(name) or _SHARD.search(stem) or ("." in stem and not suffix):
        return None
    if stem.isdecimal() and _HOLDS_CHECKPOINTS.search(folder):
        return int(stem)
    if found := _STEP.search(stem):
        return int(found.group(1))
    found = _LEADING.search(stem) or _NAMED.search(stem)
    return int(found.group(1)) if found and not _EPOCH.search(stem) else None


def newest_checkpoint(folder: Path, step: int) -> Checkpoint | None:
    """Return the checkpoint with the largest step up to `step` in a folder, at any depth up to `MAX_DEPTH`.

    Of several with the same step, the one that changed last. A file or folder without content is not a checkpoint.
    """
    found = (one for one in _checkpoints(folder) if one.step <= step)
    return max(found, key=lambda one: (one.step, one.modified), default=None)


def _checkpoints(folder: Path) -> Iterator[Checkpoint]:
    pending, seen, deadline = [(folder, 0)], 0, time.monotonic() + MAX_SECONDS
    while pending:
        place, depth = pending.pop()
        try:
            with os.scandir(place) as listed:
                entries = list(listed)
        except OSError:
            continue
        for entry in entries:
            seen += 1
            if seen > MAX_ENTRIES or time.monotonic() > deadline:
                return
            try:
                is_folder = entry.is_dir()
                step = step_of(entry.name, place.name)
                if step is not None and (is_folder or "." in entry.name) and (state := _content(entry, is_folder)):
                    yield Checkpoint(path=Path(entry.path), step=step, modified=state)
                elif is_folder and depth < MAX_DEPTH and not entry.is_symlink() and _is_searched(entry.name):
                    pending.append((Path(entry.path), depth + 1))
            except OSError:
                continue


def _is_searched(name: str) -> bool:
    return not name.startswith(".") and name not in _NOT_SEARCHED


def _content(entry: os.DirEntry[str], is_folder: bool) -> float | None:
    """Return when something with content changed last; None for an empty file or folder. Raises OSError."""
    state = entry.stat()
    has_content = bool(os.listdir(entry.path)) if is_folder else state.st_size > 0
    return state.st_mtime if has_content else None
