"""The outcome of a smoke run around which something goes wrong."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_smoke.monitor.smoke import RunOptions, run_smoke
from tests.monitor.test_run_monitor import unstaged

ELSEWHERE = "name another folder with --smoke-report, or with TMPDIR for temporary files"


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, f"free space on the disk, or {ELSEWHERE}"),
        (errno.EROFS, f"make the folder writable, or {ELSEWHERE}"),
        (errno.EACCES, f"change the permissions of this path; for a folder of results, {ELSEWHERE}"),
        (errno.EMFILE, "raise the limit on open files: `ulimit -n 1024`"),
        (errno.EIO, ""),
    ],
)
def test_an_error_of_the_system_has_the_hint_for_it(tmp_path: Path, number: int, hint: str) -> None:
    """A file that may not be read, such as the script of a command, is no folder to make writable."""

    @contextmanager
    def fails(on_wait: Callable[[str], object]) -> Iterator[str]:
        raise OSError(number, os.strerror(number), "data/train.py")
        yield ""

    outcome = run_smoke(unstaged(), RunOptions(root=str(tmp_path), hold_device=fails), item_id="a::constant").outcome
    (finding,) = [one for one in outcome.findings if one.id == "run"]
    assert (outcome.verdict, finding.reason, finding.hint) == ("error", "internal-error", hint)
    assert "data/train.py" in finding.text
    assert os.strerror(number) in finding.text
    assert bool(outcome.output) == (not hint), "a traceback only of what the hint does not explain"
