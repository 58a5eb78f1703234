"""Start a training process from the fork server, receive its events, send commands, end it. Imports no torch."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from pytest_smoke.errors import ChildDiedError, ChildTimeoutError
from pytest_smoke.events import Command, Event
from pytest_smoke.interruption import ARRIVAL_SECONDS, INTERRUPTION, SIGNALS
from pytest_smoke.plain import plain_text
from pytest_smoke.train.descendants import MARK, end_descendants, end_helpers, end_orphans, helpers
from pytest_smoke.train.endings import how_it_ended, place_in_stack
from pytest_smoke.train.frames import FrameError, Frames, events_of, value_of
from pytest_smoke.train.plan import RunPlan
from pytest_smoke.train.steps_begun import count_in, shared_memory
from pytest_smoke.train.temporary import clean_up_after_killed_sessions, remove_without_owner

OUTPUT_LINES = 30
"""Newest lines of a training process's output that are kept."""
OUTPUT_BYTES = 2**16
"""Newest bytes of a training process's output that are kept."""
READ_BYTES = 2**16
"""Bytes that are read from a pipe at once: a pipe of Linux holds that many."""
GRACE_SECONDS = 10.0
"""Time in which a training process must exit after its last event; destroying a CUDA context takes seconds."""
STACK_SECONDS = 3.0
"""Time in which a hanging process must write its stacks."""
REPORT_SECONDS = 0.1
"""Time in which what a hanging process has reported last must have arrived: it is in the pipe already."""
LOOK_SECONDS = 1.0
"""Time between two looks at whether the process lives, where its pipe says nothing, and at what it has started."""
FIRST_LOOK_SECONDS = 0.05
"""Shortest time between two of them, when the process has just started."""
ENDING_A_JOB = tuple(-number for number in SIGNALS)
"""Exit statuses of a process that a signal ended which all processes of a cancelled job get."""
UNKNOWN_EXIT_STATUS = 255
"""Exit status that `multiprocessing` gives a process whose fork server has ended, and with it what was known of it."""
STACK = "(most recent call first):"
"""What faulthandler writes above a stack."""
PRELOAD = "pytest_smoke.train.preload"


S = TypeVar("S")
T = TypeVar("T")


class Child:
    """A running training process."""

    def __init__(
        self, process: BaseProcess, connection: Connection, output: Connection, begun: Connection, mark: str
    ) -> None:
        self._process, self._connection, self._output, self._mark = process, connection, output, mark
        self._begun = begun
        self._frames = Frames()
        self._printed = b""
        self._started_at = self._looked_at = time.monotonic()
        self._helpers: dict[int, str] = {}
        """Processes that were seen below this one: one with an environment of its own cannot be found later."""
        self.on_silence: Callable[[], object] | None = None
        """Called about once a second while `receive` waits."""
        self._connected, self._printing = True, True
        """Whether the two pipes are open at their other end."""

    def receive(self, timeout_seconds: float | None) -> list[Event] | None:
        """Return the next events, or None if the process has exited normally.

        Raises ChildTimeoutError if none come in time (None: no limit), and ChildDiedError if the process has ended in
        another way, or sends something that is not an event.
        """
        frame = self._next_frame(timeout_seconds)
        return None if frame is None else self._decoded(events_of, frame)

    def receive_value(self, timeout_seconds: float | None = None) -> Any:
        """Return the one plain value that a process sends which does not train; None without one. As `receive`."""
        frame = self._next_frame(timeout_seconds)
        return None if frame is None else self._decoded(value_of, frame)

    def send(self, command: Command) -> None:
        """Send a command; a process that has exited already does not get it."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send(command)

    def last_lines(self) -> str:
        """Return the newest lines that the process wrote to its standard streams."""
        self._drain_output()
        lines = self._printed.decode("utf-8", errors="replace").splitlines()[-OUTPUT_LINES:]
        return plain_text("\n".join(lines))

    @property
    def steps_begun(self) -> int:
        """Steps that the process has begun, also of those that it could not report."""
        return count_in(self._begun)

    def place(self, root: str) -> str:
        """Return `file:line` of the user's code that a hanging process was in when it wrote its stack; else empty."""
        self._drain_output()
        return place_in_stack(self._printed.decode("utf-8", errors="replace").rpartition(STACK)[2], root)

    def dump_stacks(self) -> list[Event]:
        """Make a hanging process write its stack to its output: faulthandler does so on SIGABRT.

        Returns what the process reports meanwhile: one that has started others says which of them hangs.
        """
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGABRT)
            self._wait_for_exit(STACK_SECONDS)
        events: list[Event] = []
        with contextlib.suppress(ChildDiedError, ChildTimeoutError):
            while found := self.receive(REPORT_SECONDS):
                events += found
        return events

    def kill(self) -> None:
        """Kill the process and those that it started (data loader workers, and helpers in sessions of their own).

        A signal waits until they are gone.
        """
        with INTERRUPTION.held():
            self._kill()

    def _kill(self) -> None:
        was_running = self._process.exitcode is None
        if self._process.pid is not None:
            if self._process.exitcode is None:
                end_descendants(self._process.pid)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()  # the process group exists only after setsid()
        self._process.join(GRACE_SECONDS)  # a process in a device driver cannot be killed before that returns
        end_helpers(self._helpers)
        end_orphans(self._mark, os.fstat(self._output.fileno()).st_ino)
        if was_running:
            with contextlib.suppress(OSError):
                remove_without_owner(Path(tempfile.gettempdir()))  # it could not remove its own folders
        for end in (self._connection, self._output, self._begun):
            end.close()

    def _next_frame(self, timeout_seconds: float | None) -> bytes | None:
        """Wait for the next frame; None if the process has exited normally.

        The pipe alone does not tell that the process is gone: a helper that it forked may hold the other end.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while (frame := self._decoded(Frames.next, self._frames)) is None:
            look = self._look_for_helpers()
            left = look if deadline is None else min(look, deadline - time.monotonic())
            if left <= 0:
                raise ChildTimeoutError
            ended = self._process.exitcode is not None
            read = self._read(0.0 if ended else left)
            if not read and self.on_silence is not None:
                self.on_silence()
            if not self._connected or (ended and not read):
                self._wait_for_exit(GRACE_SECONDS)
                if self._process.exitcode == 0:
                    return None
                if self._process.exitcode in ENDING_A_JOB:
                    time.sleep(ARRIVAL_SECONDS)  # the signal to this process may be on its way
                raise ChildDiedError(_how_it_ended(self._process.exitcode))
        return frame

    def _look_for_helpers(self) -> float:
        """Remember what the process has started, about once a second, at first more often; return when to do it again.

        In seconds from now.
        """
        now = time.monotonic()
        pause = min(LOOK_SECONDS, max(FIRST_LOOK_SECONDS, (now - self._started_at) / 4))
        if now - self._looked_at >= pause and self._process.pid is not None:
            self._looked_at = now
            self._helpers |= helpers(self._process.pid)
        return max(FIRST_LOOK_SECONDS, self._looked_at + pause - now)

    def _read(self, seconds: float) -> bool:
        """Wait until there is something to read or the process ends; read once, and tell whether events came."""
        pipes = [self._connection] if self._connected else []
        outputs = [self._output] if self._printing else []
        ready = wait([*pipes, *outputs, self._process.sentinel], seconds)
        if self._output in ready:
            self._drain_output()
        if self._connection not in ready:
            return False
        data = _read_some(self._connection)
        self._connected = bool(data)
        self._frames.feed(data)
        return bool(data)

    def _drain_output(self) -> None:
        """Read what the process has printed so far, and keep its end."""
        seen = 0
        while self._printing and seen < 2 * OUTPUT_BYTES and wait([self._output], 0.0):
            data = _read_some(self._output)
            self._printing = bool(data)
            self._printed = (self._printed + data)[-OUTPUT_BYTES:]
            seen += len(data)

    def _wait_for_exit(self, seconds: float) -> None:
        """Wait for the process to exit, and read what it prints meanwhile: it cannot exit while its pipe is full."""
        deadline = time.monotonic() + seconds
        while self._process.exitcode is None and (left := deadline - time.monotonic()) > 0:
            outputs = [self._output] if self._printing else []
            wait([*outputs, self._process.sentinel], min(left, LOOK_SECONDS))
            self._drain_output()

    def _decoded(self, decode: Callable[[S], T], data: S) -> T:
        try:
            return decode(data)
        except FrameError as error:
            raise ChildDiedError(str(error)) from None


def child_of(plan: RunPlan) -> AbstractContextManager[Child]:
    """Start a training process that runs `plan`; it is killed on exit if it is still running.

    Raises OSError if no process can be started.
    """
    return _child(_train_in_child, plan)


def describing(plan: RunPlan) -> AbstractContextManager[Child]:
    """Start a process that builds the plan's trainer and sends the settings of its full run, or why it cannot.

    It sends one value: a mapping, or a `Crashed`. It is killed on exit. Raises OSError if no process can be started.
    """
    return _child(_describe_in_child, plan)


@cache
def accelerators() -> list[dict[str, Any]]:
    """Return the accelerators that torch can use, as a separate process sees them; asked once per session.

    Raises ChildDiedError if that process fails, and OSError if it cannot be started.
    """
    with _child(_list_accelerators_in_child, None) as child:
        try:
            devices: list[Any] = child.receive_value() or []
        except ChildDiedError as error:
            raise ChildDiedError(f"{error}\n{child.last_lines()}") from None
    return devices


@contextmanager
def _child(main: Callable[..., None], plan: RunPlan | None) -> Iterator[Child]:
    try:
        child = _start(main, plan, _fork_server())
    except (OSError, EOFError):
        # The fork server listens on a socket in the temporary directory. A task may have emptied that directory, or its
        # path may be too long for a socket. Without the server, a process starts in seconds instead of milliseconds.
        child = _start(main, plan, multiprocessing.get_context("spawn"))
    try:
        yield child
    finally:
        child.kill()


@cache
def _fork_server() -> ForkServerContext:
    clean_up_after_killed_sessions()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOAD])
    with _sigint_blocked():
        # The public function belongs to the first server, even if a plugin has put another one in its place.
        forkserver._forkserver.ensure_running()
    return context


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Start processes with SIGINT blocked: on Ctrl-C, one that still imports torch would print a traceback.

    They are in the terminal's foreground process group until they get a session of their own, where they unblock it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(main: Callable[..., None], plan: RunPlan | None, context: ForkServerContext | SpawnContext) -> Child:
    parent_end, child_end, output, child_output, begun = _connections(context)
    # Not a daemon: a daemonic process cannot start data loader workers. `_child` kills what is left.
    mark = uuid4().hex
    process = context.Process(target=main, args=(plan, child_end, child_output, {**os.environ, MARK: mark}, begun))
    try:
        # From the server a process starts in milliseconds, and as the server was started. The server may not be ready.
        with _sigint_blocked() if isinstance(context, SpawnContext) else contextlib.nullcontext():
            process.start()
    except BaseException:
        for end in (parent_end, output, begun):
            end.close()
        raise
    finally:
        child_end.close()
        child_output.close()
    return Child(process, parent_end, output, begun, mark)


def _connections(context: ForkServerContext | SpawnContext) -> list[Connection]:
    """Return both ends of the pipe for events, those of the pipe for output, and the memory for a count.

    Raises OSError: too many files are open.
    """
    opened: list[Any] = []
    try:
        opened += context.Pipe()
        opened += context.Pipe(duplex=False)
        opened.append(shared_memory())
    except OSError:
        for one in opened:
            one.close()
        raise
    return opened


# These import late: they run in the training process, which has torch; the pytest process only names them.


def _train_in_child(
    plan: RunPlan, connection: Connection, output: Connection, environment: dict[str, str], begun: Connection
) -> None:
    from pytest_smoke.train import worker

    worker.train_main(plan, connection, output, environment, begun)


def _describe_in_child(
    plan: RunPlan, connection: Connection, output: Connection, environment: dict[str, str], begun: Connection
) -> None:
    from pytest_smoke.train import worker

    worker.describe_main(plan, connection, output, environment)


def _list_accelerators_in_child(
    plan: None, connection: Connection, output: Connection, environment: dict[str, str], begun: Connection
) -> None:
    from pytest_smoke.train import worker

    worker.accelerators_main(connection, output, environment)


def _read_some(pipe: Connection) -> bytes:
    """Read what a pipe has, at most `READ_BYTES`; nothing if it is closed at its other end."""
    try:
        return os.read(pipe.fileno(), READ_BYTES)
    except ConnectionResetError:
        return b""


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is None:
        return "it closed its connection and did not exit"
    if exit_code == UNKNOWN_EXIT_STATUS:
        return f"it {how_it_ended(exit_code)}, or the fork server that started it was killed"
    return f"it {how_it_ended(exit_code)}"
