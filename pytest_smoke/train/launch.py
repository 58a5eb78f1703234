"""The parent's side of a child: start it from the fork server, listen, answer, and bury it. Imports no torch."""

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
"""Newest lines of a child's output that are kept."""
GRACE_SECONDS = 10.0
"""A child that has said its last may take this long to leave; CUDA contexts take seconds."""

STACK_SECONDS = 3.0
"""A hanging child has so long to write its stacks."""

PRELOAD = "pytest_smoke.train.preload"


class Child:
    """A running rehearsal."""

    def __init__(self, process: BaseProcess, connection: Connection, output: Path) -> None:
        self._process, self._connection, self._output = process, connection, output

    def receive(self, timeout_seconds: float | None) -> list[Event] | None:
        """The next records; None when the child has left in peace. Raises Silent after the timeout, and Gone."""
        if not wait([self._connection], timeout_seconds):
            raise ChildTimeoutError
        try:
            records: list[Event] = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(GRACE_SECONDS)
            if self._process.exitcode == 0:
                return None
            raise ChildDiedError(_ending(self._process.exitcode)) from None
        return records

    def send(self, command: Command) -> None:
        """Say it to the child; one that has left already does not hear it, and its records tell."""
        with contextlib.suppress(BrokenPipeError):
            self._connection.send(command)

    def last_lines(self) -> str:
        """The newest lines the child wrote to its standard streams."""
        with contextlib.suppress(OSError):
            return "\n".join(self._output.read_text(encoding="utf-8", errors="replace").splitlines()[-OUTPUT_LINES:])
        return ""

    def dump_stacks(self) -> None:
        """Have a hanging child write where it hangs: faulthandler answers SIGABRT with its stack."""
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGABRT)
            self._process.join(STACK_SECONDS)

    def kill(self) -> None:
        """End the child and whatever it started (data loader workers), at once."""
        if self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()  # the group exists only once the child has settled
        self._process.join()
        self._connection.close()


def child_of(plan: RunPlan) -> AbstractContextManager[Child]:
    """A child that runs `plan`; killed on the way out if it is still there."""
    return _child(_train_in_child, plan)


@cache
def accelerators() -> list[dict[str, Any]]:
    """What a child's torch can use; asked once a session. Raises Gone where it cannot say."""
    with _child(_describe_in_child, None) as child:
        try:
            found: list[Any] = child.receive(None) or []
        except ChildDiedError as error:
            raise ChildDiedError(f"{error}\n{child.last_lines()}") from None
    return found


@contextmanager
def _child(entry: Callable[..., None], plan: RunPlan | None) -> Iterator[Child]:
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        child = _start(entry, plan, output=Path(folder) / "output")
        try:
            yield child
        finally:
            child.kill()


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOAD])
    return context


def _start(entry: Callable[..., None], plan: RunPlan | None, *, output: Path) -> Child:
    ours, theirs = _context().Pipe()
    # No daemon: a daemonic process may start no data loader workers. child_of kills what is left.
    process = _context().Process(target=entry, args=(plan, theirs, str(output), dict(os.environ)))
    process.start()
    theirs.close()
    return Child(process, ours, output)


# Imported late: these two run in the child, where torch is; the parent only names them.


def _train_in_child(plan: RunPlan, connection: Connection, output: str, environment: dict[str, str]) -> None:
    from pytest_smoke.train import worker

    worker.child_main(plan, connection, output, environment)


def _describe_in_child(plan: None, connection: Connection, output: str, environment: dict[str, str]) -> None:
    from pytest_smoke.train import worker

    worker.describe_main(connection, output, environment)


def _ending(exit_code: int | None) -> str:
    if exit_code is None:
        return "it closed its pipe but did not leave"
    if exit_code >= 0:
        return f"it left with exit status {exit_code}"
    name = signal.Signals(-exit_code).name
    hint = ", as the kernel does when memory runs out" if name == "SIGKILL" else ""
    return f"it was killed by {name}{hint}"
