"""Runs pytest sessions and commands of the suite in forks of one process that has imported what they need.

Each is a process of its own with an interpreter exit of its own, but starts without the imports of pytest and of the
plugin. These take 0.6 s of CPU time, and the suite starts about 200 sessions and 100 commands. torch is not imported: a
session must not need it. This file is a module of the suite (`SessionServer`) and the program of the server (`serve`).
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

TIMEOUT_SECONDS = 600
WITHOUT_TORCH = ("pytest_smoke.train.plan", "pytest_smoke.train.launch")
"""Modules of the training process that a pytest session imports."""
RECIPE = """\
task: not_imported:Task
full: {batch_size: 8, learning_rate: 0.1, max_steps: 10000}
smoke: {max_steps: 400}
"""
CLIENT = Path(__file__).with_name("session_client.py")
PYTHON = """\
#!/bin/sh
case "$1 $2" in
"-m pytest" | "-m pytest_smoke") module=$2; shift 2; exec {client} "$PWD" "$module" "$@" ;;
"-u -c") exec {client} "$PWD" "" "$3" ;; # a worker of pytest-xdist
esac
exec {python} "$@"
"""
PYTEST = """\
#!/bin/sh
exec {client} "" pytest "$@"
"""


class SessionServer:
    """The client's side: starts the server at the first session."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._folder = tempfile.TemporaryDirectory()
        self._address = str(Path(self._folder.name, "socket"))

    def programs(self) -> Path:
        """Return a folder for PATH with `python` and `pytest`, whose sessions and commands the server runs.

        `python` is this interpreter for everything but `-m pytest`, `-m pytest_smoke` and workers of pytest-xdist.
        """
        self._start()
        folder = Path(self._folder.name, "bin")
        if not folder.exists():
            folder.mkdir()
            python = shlex.quote(sys.executable)
            client = f"{python} -I -S {shlex.quote(str(CLIENT))} {shlex.quote(self._address)}"
            for name, script in (("python", PYTHON), ("pytest", PYTEST)):
                (folder / name).write_text(script.format(client=client, python=python))
                (folder / name).chmod(0o755)
        return folder

    def run(self, args: list[str], *, cwd: Path, env: Mapping[str, str] = os.environ) -> pytest.RunResult:
        """Run `python -m pytest ARGS` in the folder `cwd` with the environment `env`; print what it prints.

        A session that takes longer than `TIMEOUT_SECONDS` is killed.
        """
        # The server's program finds no package `tests`.
        from tests.session_client import ask
        from tests.shared_fork_server import PYTHON as WORKERS

        self._start()
        path = os.pathsep.join(filter(None, [str(cwd), env.get("PYTHONPATH")]))
        own = {"PYTHONPATH": path, WORKERS: str(self.programs() / "python")}  # both for xdist's workers
        request = {"module": "pytest", "args": args, "cwd": str(cwd), "first": str(cwd), "env": {**env, **own}}
        began = time.perf_counter()
        with (
            open(os.devnull) as inputs,
            tempfile.TemporaryFile("w+", errors="surrogateescape") as stdout,
            tempfile.TemporaryFile("w+", errors="surrogateescape") as stderr,
        ):
            status = ask(self._address, request, [one.fileno() for one in (inputs, stdout, stderr)])
            stdout.seek(0)
            stderr.seek(0)
            out, err = stdout.read(), stderr.read()
        print(out, end="")
        print(err, end="", file=sys.stderr)
        ret = pytest.ExitCode(status) if status in list(pytest.ExitCode) else status
        return pytest.RunResult(ret, out.splitlines(), err.splitlines(), time.perf_counter() - began)

    def _start(self) -> None:
        """Start the server if it is not running, and wait until it listens."""
        if self._process is None:
            command = [sys.executable, "-P", __file__, self._address]
            # A test may have set variables of GitHub, to which the session of the server itself would write.
            own = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own)
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == "ready\n"

    def close(self) -> None:
        """End the server."""
        if self._process is not None:
            self._process.communicate(timeout=60)
        self._folder.cleanup()


class Preload:
    """Imports the plugin's modules within a session, whose import hook rewrites their assertions as in any session."""

    def pytest_configure(self) -> None:
        package = importlib.import_module("pytest_smoke")
        for module in pkgutil.walk_packages(package.__path__, "pytest_smoke."):
            if not module.name.endswith("__main__") and not module.name.startswith("pytest_smoke.train."):
                importlib.import_module(module.name)
        for name in WITHOUT_TORCH:
            importlib.import_module(name)


def serve(address: str) -> None:
    """Answer requests at a socket with the exit status of their process, until the standard input is closed.

    A request is a line of JSON, with which the standard streams of the process come.
    """
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
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", file=replies, flush=True)
    watchers: set[int] = set()
    while listener in select.select([sys.stdin, listener], [], [])[0]:
        connection, _ = listener.accept()
        watchers = {pid for pid in watchers if os.waitpid(pid, os.WNOHANG) == (0, 0)}
        pid = os.fork()
        if pid == 0:
            replies.close()
            listener.close()
            watch(connection, base)
        watchers.add(pid)
        connection.close()


def watch(connection: socket.socket, base: list[str]) -> NoReturn:
    """Read a request from a connection, run it, answer with its exit status, and end this process."""
    data, streams, _, _ = socket.recv_fds(connection, 2**16, 3)
    while not data.endswith(b"\n"):
        data += connection.recv(2**16)
    pid = os.fork()
    if pid == 0:
        connection.close()
        become(json.loads(data), streams, base)
    for stream in streams:
        os.close(stream)
    _, status = os.waitpid(pid, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def become(request: dict[str, Any], streams: Sequence[int], base: list[str]) -> NoReturn:
    """Run a module, or code if none is named, in this process as if `python -m MODULE` or `python -c CODE` ran it.

    `streams`: its standard streams; `base`: the interpreter's own `sys.path`.
    """
    signal.alarm(TIMEOUT_SECONDS)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # open as long as the process
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:] = [*filter(None, [request["first"]]), *given, *base]
    sys.argv = [request["module"] or "-c", *request["args"]]
    if not request["module"]:
        code = sys.argv.pop()
        sys.modules["__main__"] = ModuleType("__main__")
        exec(code, vars(sys.modules["__main__"]))
        sys.exit()
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    serve(sys.argv[1])
