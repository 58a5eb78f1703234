"""`verdicts.json`, and the one way a report reaches the disk."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from pytest_smoke.outcome import Outcome, strict

SCHEMA = 1
"""Version of `verdicts.json`; raised when a key changes its meaning or goes away."""


def verdicts_json(outcomes: Iterable[Outcome]) -> str:
    """Strict JSON: `{"schema": 1, "outcomes": [...]}`, in the order of the items' ids."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.id)
    tree = {"schema": SCHEMA, "outcomes": [strict(outcome.to_dict()) for outcome in ordered]}
    return json.dumps(tree, indent=1, allow_nan=False) + "\n"


def file_name(id: str) -> str:
    """What an item's files are called: readable, short enough for any file system, and another one for every id."""
    readable = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-._") else "_" for letter in id)
    return f"{readable[-120:]}-{sha256(id.encode()).hexdigest()[:8]}"


def write_whole(path: Path, text: str) -> None:
    """Write beside `path` and rename, so that a reader sees the old file or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp makes it private; a report is as readable as any file its folder's owner makes.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(beside, 0o666 & ~umask)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
