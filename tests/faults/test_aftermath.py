"""What a session leaves behind is found: otherwise no row of the table would show that nothing is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import session as module
from tests.faults.session import SHARED_MEMORY, FaultSession

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_whatever_a_session_leaves_behind_is_named(
    fault_session: Callable[[str], FaultSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAVING_SECONDS", 0.0)
    session = fault_session("aftermath")
    session.assert_nothing_left()
    report = session.path / "out"
    (report / "packages").mkdir(parents=True)
    (report / "verdicts.json").write_text("{")
    (report / "packages" / "a.partial").touch()
    (session.temporary / "smoke-a").touch()
    segment = SHARED_MEMORY / f"faults-{session.path.parent.name}"
    segment.touch()
    marked = subprocess.Popen(SLEEPS, env=session.environment(), cwd="/")
    inside = subprocess.Popen(SLEEPS, cwd=session.path)
    try:
        with pytest.raises(AssertionError) as left:
            session.assert_nothing_left()
    finally:
        segment.unlink()
        for process in (marked, inside):
            process.kill()
            process.wait()
    for name in (
        f"process {marked.pid}",
        f"process {inside.pid}",
        "TMPDIR/smoke-a",
        str(segment),
        f"half-written {report / 'packages' / 'a.partial'}",
        f"unreadable {report / 'verdicts.json'}",
    ):
        assert name in str(left.value)


def test_a_task_empties_no_folder_that_is_not_of_its_test(tmp_path: Path) -> None:
    (tmp_path / "empties.py").write_text(module.EMPTIES)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    code = "import empties; empties.empty('kept')"
    env = {module.DISPOSABLE: str(tmp_path / "other")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "is not a folder of this test" in done.stderr
    assert (tmp_path / "kept" / "file").exists()
