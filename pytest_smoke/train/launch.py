"""Start a training process from the fork server, receive its events, send commands, end it. Imports no torch."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pytest_smoke.errors import ChildDiedError, ChildTimeoutError
from pytest_smoke.events import Command, Event
from pytest_smoke.train.plan import RunPlan

OUTPUT_LINES = 30
"""Newest lines of a training process's output that are kept."""
GRACE_SECONDS = 10.0
"""Time in which a training process must exit after its last event; destroying a CUDA context takes seconds."""
STACK_SECONDS = 3.0
"""Time in which a hanging process must write its stacks."""
PRELOAD = "pytest_smoke.train.preload"


class Child:
    """A running training process."""

    def __init__(self, process: BaseProcess, connection: Connection, output: Path) -> None:
        self._process, self._connection, self._output = process, connection, output

    def receive(self, timeout_seconds: float | None) -> list[Event] | None:
        """Return the next events, or None if the process has exited normally.

        Raises ChildTimeoutError if none come in time (None: no limit), and ChildDiedError.
        """
        if not wait([self._connection], timeout_seconds):
            raise ChildTimeoutError
        try:
            events: list[Event] = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(GRACE_SECONDS)
            if self._process.exitcode == 0:
                return None
            raise ChildDiedError(_how_it_ended(self._process.exitcode)) from None
        return events

    def send(self, command: Command) -> None:
        """Send a command; a process that has exited already does not get it."""
        with contextlib.suppress(BrokenPipeError):
            self._connection.send(command)

    def last_lines(self) -> str:
        """Return the newest lines that the process wrote to its standard streams."""
        with contextlib.suppress(OSError):
            return "\n".join(self._output.read_text(encoding="utf-8", errors="replace").splitlines()[-OUTPUT_LINES:])
        return ""

    def dump_stacks(self) -> None:
        """Make a hanging process write its stack to its output: faulthandler does so on SIGABRT."""
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGABRT)
            self._process.join(STACK_SECONDS)

    def kill(self) -> None:
        """Kill the process and those that it started (data loader workers)."""
        if self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()  # the process group exists only after setsid()
        self._process.join()
        self._connection.close()


def child_of(plan: RunPlan) -> AbstractContextManager[Child]:
    """Start a training process that runs `plan`; it is killed on exit if it is still running."""
    return _child(_train_in_child, plan)


@cache
def accelerators() -> list[dict[str, Any]]:
    """Return the accelerators that torch can use, as a separate process sees them; asked once per session.

    Raises ChildDiedError if that process fails.
    """
    with _child(_list_accelerators_in_child, None) as child:
        try:
            devices: list[Any] = child.receive(None) or []
        except ChildDiedError as error:
            raise ChildDiedError(f"{error}\n{child.last_lines()}") from None
    return devices


@contextmanager
def _child(main: Callable[..., None], plan: RunPlan | None) -> Iterator[Child]:
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        child = _start(main, plan, output=Path(folder) / "output")
        try:
            yield child
        finally:
            child.kill()


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOAD])
    return context


def _start(main: Callable[..., None], plan: RunPlan | None, *, output: Path) -> Child:
    parent_end, child_end = _context().Pipe()
    # Not a daemon: a daemonic process cannot start data loader workers. `_child` kills what is left.
    process = _context().Process(target=main, args=(plan, child_end, str(output), dict(os.environ)))
    process.start()
    child_end.close()
    return Child(process, parent_end, output)


# These two import late: they run in the training process, which has torch; the pytest process only names them.


def _train_in_child(plan: RunPlan, connection: Connection, output: str, environment: dict[str, str]) -> None:
    from pytest_smoke.train import worker

    worker.train_main(plan, connection, output, environment)


def _list_accelerators_in_child(plan: None, connection: Connection, output: str, environment: dict[str, str]) -> None:
    from pytest_smoke.train import worker

    worker.accelerators_main(connection, output, environment)


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is None:
        return "it closed its connection and did not exit"
    if exit_code >= 0:
        return f"it ended with exit status {exit_code}"
    name = signal.Signals(-exit_code).name
    cause = ", as the kernel does when memory runs out" if name == "SIGKILL" else ""
    return f"it was killed by {name}{cause}"
