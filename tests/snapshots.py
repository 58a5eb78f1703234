"""Snapshots of texts in files. `SNAPSHOT_UPDATE=1 pytest ...` rewrites them; review the diff before committing it."""

from __future__ import annotations

import os
from pathlib import Path


def assert_snapshot(path: Path, text: str, *, words_only: bool = False) -> None:
    """Compare a text with the file at `path`; `words_only` ignores how it is broken into lines."""
    if os.environ.get("SNAPSHOT_UPDATE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    expected = path.read_text(encoding="utf-8")
    if words_only:
        text, expected = (" ".join(one.split()) for one in (text, expected))
    assert text == expected
