"""Temporary folders of killed processes are removed by the next session; those of living ones stay."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_smoke.train.temporary import LOCK, remove_without_owner, temporary_folder

WAITS = (
    "import time\n"
    "from multiprocessing import util\n"
    "from pytest_smoke.train.temporary import clean_up_after_killed_sessions, temporary_folder\n"
    "clean_up_after_killed_sessions()\n"
    "with temporary_folder('run-') as folder:\n"
    "    print(folder, util.get_temp_dir(), flush=True)\n"
    "    time.sleep(600)\n"
)


def test_only_the_folders_of_dead_processes_are_removed(tmp_path: Path) -> None:
    strange = tmp_path / "smoke-tests" / "data"
    strange.mkdir(parents=True)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", WAITS]
    with (
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as living,
    ):
        try:
            assert killed.stdout is not None
            assert living.stdout is not None
            left, kept = (
                [Path(path) for path in stream.readline().split()] for stream in (killed.stdout, living.stdout)
            )
            killed.kill()
            killed.wait()
            assert all(path.exists() for path in left)
            remove_without_owner(tmp_path)
            assert sorted(tmp_path.iterdir()) == sorted([strange.parent, *kept])
            assert strange.exists()
        finally:
            for process in (killed, living):
                process.kill()


def test_a_temporary_folder_is_locked_until_it_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder("run-") as folder:
        assert [path.name for path in folder.iterdir()] == [LOCK]
        remove_without_owner(tmp_path)
        assert folder.exists()
    assert list(tmp_path.iterdir()) == []


def test_the_first_temporary_folder_removes_those_of_killed_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / "smoke-command-left"
    left.mkdir()
    (left / LOCK).touch()
    with temporary_folder("command-") as folder:
        assert list(tmp_path.iterdir()) == [folder]
