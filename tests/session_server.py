"""Runs pytest sessions of the suite in forks of one process that has imported what they need.

Each session is a process of its own with an interpreter exit of its own, but starts without the imports of pytest and
of the plugin. These take 0.6 s of CPU time, and the suite starts about 200 sessions. torch is not imported: a session
must not need it. This file is a module of the suite (`SessionServer`) and the program of the server (`serve`).
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

TIMEOUT_SECONDS = 600
WITHOUT_TORCH = ("pytest_smoke.train.plan", "pytest_smoke.train.launch")
"""Modules of the training process that a pytest session imports."""
RECIPE = """\
task: not_imported:Task
full: {batch_size: 8, learning_rate: 0.1, max_steps: 10000}
smoke: {max_steps: 400}
"""


class SessionServer:
    """The client's side: starts the server at the first session."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, args: list[str], *, cwd: Path, env: Mapping[str, str] = os.environ) -> pytest.RunResult:
        """Run `python -m pytest ARGS` in the folder `cwd` with the environment `env`; print what it prints.

        A session that takes longer than `TIMEOUT_SECONDS` is killed.
        """
        if self._process is None:
            command = [sys.executable, "-P", __file__]
            # A test may have set variables of GitHub, to which the session of the server itself would write.
            own = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder, name) for name in ("stdout", "stderr")]
            path = os.pathsep.join(filter(None, [str(cwd), env.get("PYTHONPATH")]))
            request = {
                "args": args,
                "cwd": str(cwd),
                "env": {**env, "PYTHONPATH": path},  # for xdist's workers
                "outputs": list(map(str, paths)),
            }
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            status = int(self._process.stdout.readline())
            out, err = (path.read_text(errors="surrogateescape") for path in paths)
        print(out, end="")
        print(err, end="", file=sys.stderr)
        ret = pytest.ExitCode(status) if status in list(pytest.ExitCode) else status
        return pytest.RunResult(ret, out.splitlines(), err.splitlines(), time.perf_counter() - began)

    def close(self) -> None:
        """End the server."""
        if self._process is not None:
            self._process.communicate(timeout=60)


class Preload:
    """Imports the plugin's modules within a session, whose import hook rewrites their assertions as in any session."""

    def pytest_configure(self) -> None:
        package = importlib.import_module("pytest_smoke")
        for module in pkgutil.walk_packages(package.__path__, "pytest_smoke."):
            if not module.name.endswith("__main__") and not module.name.startswith("pytest_smoke.train."):
                importlib.import_module(module.name)
        for name in WITHOUT_TORCH:
            importlib.import_module(name)


def serve() -> None:
    """Answer requests, one JSON object per line on standard input, with the exit status of their session."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    own = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    base = [entry for entry in sys.path if entry not in own]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.smoke.yaml").write_text(RECIPE)
        Path(folder, "not_imported.py").write_text("Task = None\n")
        # pytest-xdist keeps the `sys.path` of its import for its workers.
        options = [
            "--smoke-preflight",
            "-pno:xdist",
            "-pno:xdist.looponfail",
            "-pno:cacheprovider",
            "--rootdir",
            folder,
        ]
        assert pytest.main([*options, folder], plugins=[Preload()]) == pytest.ExitCode.OK
    assert not {"torch", "xdist.plugin"} & sys.modules.keys()
    gc.collect()
    gc.freeze()  # or each session's collections would copy the pages of these modules
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            replies.close()
            become(request, base)
            runpy.run_module("pytest", run_name="__main__", alter_sys=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=replies, flush=True)


def become(request: dict[str, Any], base: list[str]) -> None:
    """Make this process look as if `python -m pytest` had started it; `base`: the interpreter's own `sys.path`."""
    signal.alarm(TIMEOUT_SECONDS)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    inputs = os.open(os.devnull, os.O_RDONLY)
    outputs = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for path in request["outputs"]]
    for number, descriptor in enumerate([inputs, *outputs]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # open as long as the process
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:] = [request["cwd"], *given, *base]
    sys.argv = ["pytest", *request["args"]]


if __name__ == "__main__":
    serve()
