"""What a run was made of, before and after it."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

from pytest_smoke.monitor import sources


def test_a_source_that_changes_between_two_runs_is_read_again(tmp_path: Path) -> None:
    """Also if it keeps its size and gets the old time of change, as from a tool that restores times."""
    file = tmp_path / "task.py"
    file.write_text("a = 1")
    old = os.stat(file)
    for text in ("a = 1", "a = 2", "a = 3"):
        file.write_text(text)
        os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns - 10**12))
        assert sources._checksum_before(str(file)) == sha256(text.encode()).hexdigest()


def test_a_source_that_has_not_changed_for_some_time_is_read_once() -> None:
    path = str(Path(os.__file__))
    sources._settled_checksum.cache_clear()
    found = {sources._checksum_before(path) for _ in range(3)}
    assert found == {sha256(Path(path).read_bytes()).hexdigest()}
    assert sources._settled_checksum.cache_info().misses == 1


def test_a_source_that_is_gone_has_no_checksum(tmp_path: Path) -> None:
    assert sources._checksum_before(str(tmp_path / "gone.py")) == ""
