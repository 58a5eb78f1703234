"""Executes smoke runs as the tasks of a Ray cluster."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_smoke.errors import SmokeError
from pytest_smoke.interruption import SIGNALS
from pytest_smoke.monitor.executor import Request
from pytest_smoke.monitor.remote_run import Returned, execute_here, failed_result, restarted, take_in
from pytest_smoke.monitor.smoke import SmokeResult
from pytest_smoke.outcome import Finding
from pytest_smoke.plain import exception_text, plain_name
from pytest_smoke.text import count, file_size, listed

INSTALL = "pip install 'pytest-verdict-smoke[ray]'"
EXCLUDED = (".git", "__pycache__", ".venv", "venv", ".tox", ".mypy_cache", ".pytest_cache", "node_modules")
"""Folders that no smoke run needs, and that are not sent."""
TOO_LARGE = "exceeds the maximum size"
"""Part of Ray's message on a rootdir that is too large."""
ENDING_SECONDS = 15.0
"""Time in which a cancelled run must end: to end a training process takes up to 10 s."""
CONNECT_SECONDS = 10.0
"""Time in which the head node must answer: a connection across a continent takes 0.1 s."""
NAMED_PARTS = 3
"""Large files and folders that a message names."""


class RayExecutor:
    """Sends every smoke run of a session to a cluster."""

    def __init__(self, address: str | None, *, excludes: Sequence[str]) -> None:
        """Take the address of a cluster; None: that in `RAY_ADDRESS`, else one that is started on this machine."""
        self._address, self._excludes = address, tuple(excludes)
        self._task: Any = None
        self._node_cpus = 1.0
        """CPUs of the largest node: Ray waits for ever for a node that has more."""
        self._is_ours = False
        """Whether this object connected the process to the cluster."""
        self._pending: dict[Any, Request] = {}
        self._lost: dict[str, str] = {}
        """Why the first attempt of an item did not end."""
        self._immediate: list[SmokeResult] = []

    def submit(self, requests: Sequence[Request]) -> str:
        """Connect, send the rootdir, and start all runs. Raises SmokeError."""
        import ray

        if ray.is_initialized():
            raise SmokeError("--smoke-executor ray: this process is connected to a Ray cluster already")
        root = requests[0].options.root
        report = requests[0].options.report_folder
        excludes = [*EXCLUDED, *self._excludes]
        if report is not None and report.is_relative_to(root):
            excludes.append(f"/{report.relative_to(root).as_posix()}/")
        self._is_ours = True
        where = self._address or os.environ.get("RAY_ADDRESS") or "a cluster on this machine"
        _check_answers(where)
        try:
            with _own_signals():
                ray.init(
                    address=self._address,
                    runtime_env={"working_dir": root, "excludes": excludes},
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    include_dashboard=None if self._address or os.environ.get("RAY_ADDRESS") else False,
                )
        except Exception as error:  # Ray raises its own, gRPC's, ValueError, ConnectionError and others
            raise SmokeError(f"--smoke-executor ray: {_problem(error, where, Path(root))}") from None
        self._task = ray.remote(max_retries=0)(execute_here)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
        self._node_cpus = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
        for request in requests:
            needed = _gpus(request, has_gpus=gpus > 0)
            if needed > gpus:
                text = f"needs {count(needed, 'GPU')}; the largest node of the Ray cluster has {gpus:g}"
                finding = Finding(id="run", status="not-checked", reason="unmet-requirements", text=text)
                self._immediate.append(failed_result(request, finding))
            else:
                self._start(request, needed)
        cpus = sum(node.get("CPU", 0.0) for node in nodes)
        return f"{count(len(requests), 'smoke run')} on Ray: {count(len(nodes), 'node')}, {count(int(cpus), 'CPU')}"

    def next_ended(self) -> SmokeResult | None:
        """Wait for a run. One whose node is lost is started once more."""
        import ray

        if self._immediate:
            return self._immediate.pop()
        while self._pending:
            (ended, *_), _ = ray.wait(list(self._pending), num_returns=1)
            request = self._pending.pop(ended)
            try:
                returned = ray.get(ended)
            except (
                ray.exceptions.WorkerCrashedError,
                ray.exceptions.NodeDiedError,
                ray.exceptions.LocalRayletDiedError,
                ray.exceptions.ObjectLostError,
            ) as error:
                why = f"its node was lost ({type(error).__name__})"
                if request.item_id in self._lost:
                    return failed_result(
                        request,
                        Finding(id="run", status="fail", reason="node-lost", text=f"{why}, and so was the one before"),
                    )
                self._lost[request.item_id] = why
                self._start(request, _gpus(request, has_gpus=ray.cluster_resources().get("GPU", 0) > 0))
                continue
            except Exception as error:  # what the task raised, or the cluster
                text = f"Ray could not execute the smoke run: {exception_text(error)}"
                return failed_result(request, Finding(id="run", status="fail", reason="internal-error", text=text))
            return self._taken_in(returned, request)
        return None

    def cancel(self) -> list[SmokeResult]:
        """Cancel all runs. One that has started ends as on Ctrl-C and returns its outcome; others return nothing."""
        import ray

        results = []
        for reference in self._pending:
            ray.cancel(reference, force=False)
        deadline = time.monotonic() + ENDING_SECONDS
        while self._pending and (left := deadline - time.monotonic()) > 0:
            ended, _ = ray.wait(list(self._pending), num_returns=1, timeout=left)
            for reference in ended:
                request = self._pending.pop(reference)
                try:
                    results.append(self._taken_in(ray.get(reference), request))
                except Exception:  # it had not started
                    continue
        for request in self._pending.values():
            text = f"interrupted, and it did not end in {ENDING_SECONDS:g} s"
            results.append(
                failed_result(request, Finding(id="run", status="not-checked", reason="interrupted", text=text))
            )
        self._pending.clear()
        return results

    def close(self) -> None:
        """Disconnect, and end a cluster that was started for the session."""
        if not self._is_ours:
            return
        import ray

        if ray.is_initialized():
            with _own_signals():
                ray.shutdown()

    def _start(self, request: Request, gpus: int) -> None:
        cpus = min(request.case.recipe.processes, self._node_cpus)
        self._pending[self._task.options(num_cpus=cpus, num_gpus=gpus, name=request.item_id).remote(request)] = request

    def _taken_in(self, returned: Returned, request: Request) -> SmokeResult:
        try:
            result = take_in(returned, request)
        except OSError as error:
            text = f"the files of the run could not be written: {error}"
            return failed_result(request, Finding(id="run", status="fail", reason="internal-error", text=text))
        why = self._lost.get(request.item_id)
        return restarted(result, why, request) if why is not None else result


def _gpus(request: Request, *, has_gpus: bool) -> int:
    """Return how many GPUs a run is given. Ray hides all others from it."""
    recipe, requires, kind = request.case.recipe, request.case.recipe.requires, request.options.device.partition(":")[0]
    if kind == "cpu":
        return 0  # as on this machine, --smoke-device decides
    if kind == "cuda" or requires.kind == "cuda" or has_gpus or requires.memory_gib:
        return recipe.gpus
    return requires.gpus


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's handlers of signals: Ray replaces that of SIGTERM by one that exits."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _check_answers(address: str) -> None:
    """Raise SmokeError if nobody listens at HOST:PORT: Ray would try to connect for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise SmokeError(f"--smoke-executor ray: cannot connect to {plain_name(address)}: {error}") from None


def _problem(error: Exception, where: str, root: Path) -> str:
    """Say why Ray cannot be used; of a rootdir that is too large, which parts of it are the largest."""
    if TOO_LARGE not in str(error):
        return f"cannot use {where}: {exception_text(error)}"
    sizes = {entry: _size(entry) for entry in root.iterdir() if entry.name not in EXCLUDED and not entry.is_symlink()}
    largest = sorted(sizes, key=lambda entry: sizes[entry], reverse=True)[:NAMED_PARTS]
    named = listed(f"{plain_name(entry.name)} ({file_size(sizes[entry])})" for entry in largest)
    return (
        f"{root} is too large to be sent to the cluster: Ray accepts 500 MiB, compressed. Its largest parts are "
        f"{named}: exclude what no smoke run reads with the ini key smoke_ray_excludes, and let tasks read data from "
        "a shared disk"
    )


def _size(path: Path) -> int:
    """Return the size of a file, or of all files in a folder, in bytes."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)
