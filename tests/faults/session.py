"""Sessions in which something goes wrong, and what they must leave behind: nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import pytest

from tests import shared_fork_server
from tests.conftest import OPTIONS, UNUSED_PLUGINS
from tests.plugin.conftest import RECIPE, TASKS
from tests.session_server import SessionServer

MARKER = "PYTEST_SMOKE_FAULTS"
"""Environment variable of everything that a session starts."""
DISPOSABLE = "PYTEST_SMOKE_DISPOSABLE"
"""Environment variable with the folders that a faulty task may empty, separated as in PATH."""
OWN_SERVER = ("--smoke-device", "cpu", "-pno:cacheprovider", *(f"-pno:{name}" for name in UNUSED_PLUGINS))
"""Options of a session with a fork server of its own."""
SHORT_RECIPE = RECIPE.replace("max_steps: 400", "max_steps: 40")
"""A recipe that is promoted after 40 steps."""
SHARED_MEMORY = Path("/dev/shm")
COMPILER_CACHE = "torchinductor_"
"""Beginning of the name of a folder in the temporary directory that torch makes when it is imported, and keeps."""
LEAVING_SECONDS = 10.0
"""Time in which what a session has started must be gone after its end. Usually it is gone before."""
TIMEOUT_SECONDS = 300.0
EMPTIES = '''
import os
import shutil
from pathlib import Path


def empty(folder, *, remove=False):
    """Remove what is in a folder, and with `remove` the folder: only one that the test has made for this."""
    path = Path(folder).resolve()
    if str(path) not in os.environ["PYTEST_SMOKE_DISPOSABLE"].split(os.pathsep):
        raise RuntimeError(f"{path} is not a folder of this test")
    if remove:
        shutil.rmtree(path)
        return
    for one in path.iterdir():
        if one.is_dir():
            shutil.rmtree(one)
        else:
            one.unlink()
'''
"""Module `empties.py` of a user's folder, for tasks that remove files.

A task never asks `tempfile.gettempdir()` what to remove: the fork server of the suite knows the machine's own folder.
"""


class FaultSession:
    """A user's folder. Leaving the `with` block asserts that nothing is left of what was started there.

    That is: no process that has the session's marker in its environment or works in the folder, no file in its
    temporary directory, nothing new in shared memory, no half-written file in a report folder, and no JSON file there
    that cannot be parsed. Slots of devices are locks, which end with the processes.
    """

    def __init__(self, folder: Path, server: SessionServer, fork_server: Mapping[str, str]) -> None:
        self.path, self._server, self._fork_server = folder / "project", server, fork_server
        self.temporary = folder / "tmp"
        for one in (self.path, self.temporary):
            one.mkdir()
        shutil.copy(shared_fork_server.__file__, self.path)
        (self.path / "tasks.py").write_text(TASKS.read_text())
        (self.path / "empties.py").write_text(EMPTIES)
        (self.path / "pytest.ini").write_text("[pytest]\n")
        self._marker = uuid4().hex
        self._shared_memory = names_in(SHARED_MEMORY)

    def __enter__(self) -> FaultSession:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.assert_nothing_left()

    def recipe(self, name: str, extra: str = "", *, base: str = SHORT_RECIPE) -> Path:
        """Write `NAME.smoke.yaml`: a recipe that is promoted, followed by `extra`."""
        path = self.path / f"{name}.smoke.yaml"
        path.write_text(base + extra)
        return path

    def environment(self, changes: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of what is started."""
        disposable = os.pathsep.join(os.path.realpath(path) for path in (self.temporary, self.path / "out"))
        own = {MARKER: self._marker, DISPOSABLE: disposable, "TMPDIR": str(self.temporary), "COLUMNS": "600"}
        return {**os.environ, **own, **(changes or {})}

    def pytest(self, *args: str, env: Mapping[str, str] | None = None) -> pytest.RunResult:
        """Run `pytest ARGS`, with the suite's fork server and without importing pytest again."""
        own = {**self.environment(env), **self._fork_server}
        return self._server.run([*OPTIONS, "-pno:cacheprovider", *args], cwd=self.path, env=own)

    def pytest_process(self, *args: str, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run `pytest ARGS` in a new interpreter, with a fork server of its own; `how` as of `run`."""
        return self.run("-m", "pytest", *OWN_SERVER, *args, **how)

    def run(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        preexec_fn: Callable[[], object] | None = None,
        before: Iterable[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run `python ARGS` in the folder; `before` is a program that starts it, such as `unshare`."""
        return subprocess.run(
            [*before, sys.executable, *args],
            cwd=self.path,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            errors="backslashreplace",
            preexec_fn=preexec_fn,
            timeout=TIMEOUT_SECONDS,
        )

    def outcomes(self, folder: str = "out") -> dict[str, dict[str, Any]]:
        """Return the outcomes of a report folder by the name of their recipe."""
        tree = json.loads((self.path / folder / "verdicts.json").read_bytes())
        return {outcome["recipe"].removesuffix(".smoke.yaml"): outcome for outcome in tree["outcomes"]}

    def assert_nothing_left(self) -> None:
        """Assert what the docstring of the class says."""
        left = eventually(self._left)
        assert not left, f"a session left behind: {left}"

    def _left(self) -> list[str]:
        processes = processes_of(f"{MARKER}={self._marker}", self.path)
        temporary = [str(path.relative_to(self.temporary)) for path in self.temporary.rglob("*")]
        temporary = [name for name in temporary if not name.startswith(COMPILER_CACHE)]
        shared = sorted(names_in(SHARED_MEMORY) - self._shared_memory)
        reports = {path.parent for path in self.path.rglob("verdicts.json")}
        files = [path for folder in reports for path in folder.rglob("*") if path.is_file()]
        return [
            *(f"process {name}" for name in processes),
            *(f"TMPDIR/{name}" for name in temporary),
            *(f"{SHARED_MEMORY}/{name}" for name in shared),
            *(f"half-written {path}" for path in files if is_temporary(path)),
            *(f"unreadable {path}" for path in files if not is_readable_json(path)),
        ]


def eventually(left: Callable[[], list[str]]) -> list[str]:
    """Return what is still there after `LEAVING_SECONDS`; processes of other tests share the machine's memory."""
    deadline = time.monotonic() + LEAVING_SECONDS
    while (found := left()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def processes_of(variable: str, path: Path) -> list[str]:
    """Return the processes that were started with `NAME=VALUE` in their environment, or work in a folder.

    The suite's fork server was started without the variable, and so are copies of the training processes.
    """
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            marked = variable.encode() in (folder / "environ").read_bytes().split(b"\0")
            if marked or Path(os.readlink(folder / "cwd")).is_relative_to(path):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(f"{folder.name}: {command:.200}")
        except OSError:  # it has ended, or belongs to someone else
            continue
    return found


def names_in(folder: Path) -> set[str]:
    """Return the names in a folder; none if it does not exist."""
    return {path.name for path in folder.glob("*")}


def is_temporary(path: Path) -> bool:
    """Tell whether a file of a report folder is one that was to be renamed."""
    return path.suffix in (".partial", ".tmp") or (path.name.startswith(".") and path.name != ".lock")


def is_readable_json(path: Path) -> bool:
    """Tell whether a file that should be JSON is. Other files are none of ours to judge."""
    if path.suffix not in (".json", ".sarif"):
        return True
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True
