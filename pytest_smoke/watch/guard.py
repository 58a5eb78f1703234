"""Start or find a run, follow its log, and stop it if it is unstable; whatever else happens, leave it alone."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_smoke.text import count, seconds
from pytest_smoke.watch.checkpoints import newest_checkpoint
from pytest_smoke.watch.follow import Unstable, Watched, WatchedLog
from pytest_smoke.watch.judge_process import PASSED_ON, JudgeProcess, Report
from pytest_smoke.watch.processes import Command, Run, RunningProcess

EXIT_UNSTABLE = 3
"""The run was stopped because it is unstable."""
EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND = 126, 127
"""As a shell exits with for a command that it cannot execute or find."""
EXIT_SIGNAL = 128
"""Added to the number of the signal that ended a command."""
STDERR = 2
WAIT_SECONDS = 0.1
"""Time between two looks at whether the run has ended."""
MAX_COPY_BYTES = 1 << 26
"""Size at which the copy of the output is emptied: its earlier points are known."""
OUTPUT = "the output"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """How a run is watched."""

    log: WatchedLog
    poll_seconds: float
    """Time between two looks at the log."""
    grace_seconds: float
    """Time between SIGTERM and SIGKILL."""
    checkpoints: Path
    """Folder in which the newest good checkpoint is looked for."""
    started_at: float = 0.0
    """When the run was started, in seconds since the epoch; 0 if that is unknown."""


class OutputCopy:
    """A copy of the command's output, in a file that the judge reads. If it fails, only the watch ends."""

    def __init__(self, say: Say) -> None:
        """Create the file. Raises OSError."""
        descriptor, name = tempfile.mkstemp(prefix="watched-", suffix=".log")
        self.path = Path(name)
        self._descriptor, self._say = descriptor, say
        self._lock, self._size, self._is_open = threading.Lock(), 0, True

    def add(self, data: bytes) -> None:
        """Append some output. Raises nothing."""
        with self._lock:
            if not self._is_open:
                return
            try:
                if self._size > MAX_COPY_BYTES:
                    os.ftruncate(self._descriptor, 0)
                    os.lseek(self._descriptor, 0, os.SEEK_SET)
                    self._size = 0
                left = memoryview(data)
                while left:
                    left = left[os.write(self._descriptor, left) :]
                self._size += len(data)
            except OSError as error:
                self._is_open = False
                reason = error.strerror or error
                self._say(f"the output cannot be copied to {self.path} ({reason}): the run continues unwatched")

    def remove(self) -> None:
        """Delete the file."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        with contextlib.suppress(OSError), self._lock:
            self._is_open = False
            os.close(self._descriptor)


def watch_command(command: Sequence[str], options: WatchOptions, *, follows_output: bool, say: Say) -> int:
    """Run a command and watch it. Return its own exit status, or `EXIT_UNSTABLE` if it was stopped."""
    copy: OutputCopy | None = None
    if follows_output:
        try:
            copy = OutputCopy(say)
            options = replace(options, log=replace(options.log, path=str(copy.path), is_new_run=False))
        except OSError as error:
            say(f"no temporary file for the output ({error.strerror or error}): the run continues unwatched")
    judge = _judge(options, say) if copy is not None or not follows_output else None
    try:
        with _passed_on() as pass_on_to:
            try:
                run = Command(command, copy=copy.add if copy is not None else None, say=say)
            except OSError as error:
                say(f"{command[0]}: {error.strerror or error}")
                return EXIT_NOT_FOUND if isinstance(error, FileNotFoundError) else EXIT_NOT_EXECUTABLE
            pass_on_to(run)
            return _guard(run, judge, options, _on_own_lines(say, run))
    finally:
        if judge is not None:
            judge.kill()
        if copy is not None:
            copy.remove()


def watch_process(pid: int, options: WatchOptions, say: Say) -> int:
    """Watch a process that runs already. Return 0 once it has ended, or `EXIT_UNSTABLE` if it was stopped.

    Raises ProcessLookupError and PermissionError if it cannot be watched.
    """
    run = RunningProcess(pid)
    judge = _judge(options, say)
    try:
        return _guard(run, judge, options, say)
    finally:
        if judge is not None:
            judge.kill()


def _judge(options: WatchOptions, say: Say) -> JudgeProcess | None:
    try:
        return JudgeProcess(options.log, poll_seconds=options.poll_seconds)
    except OSError as error:
        say(f"no process to judge in ({error.strerror or error}): the run continues unwatched")
        return None


def _on_own_lines(say: Say, run: Command) -> Say:
    """Return `say` for a terminal that the command may have left in the middle of a line, as a progress bar does."""

    def on_own_line(text: str) -> None:
        if run.is_mid_line and os.isatty(STDERR):
            run.is_mid_line = False
            with contextlib.suppress(OSError):
                os.write(STDERR, b"\n")
        say(text)

    return on_own_line


def _guard(run: Run, judge: JudgeProcess | None, options: WatchOptions, say: Say) -> int:
    verdict: Unstable | None = None
    while (status := run.exit_status()) is None:
        if judge is None:
            time.sleep(WAIT_SECONDS)
            continue
        for report in judge.reports(WAIT_SECONDS):
            if isinstance(report, Unstable):
                verdict = report
            elif isinstance(report, str):
                say(report)
        if verdict is not None and run.exit_status() is None:
            _stop(run, verdict, options, say)
            return EXIT_UNSTABLE
        if verdict is not None:
            break
    status = run.exit_status()
    assert status is not None
    if isinstance(run, Command):
        run.finish_output()
    if judge is not None:
        _say_what_was_seen([*([verdict] if verdict else []), *judge.end()], options, say)
    return status


def _stop(run: Run, verdict: Unstable, options: WatchOptions, say: Say) -> None:
    """Stop the run, and say why and from where it can be resumed."""
    began = time.monotonic()

    def explain() -> None:
        where = "" if _at(verdict.step) in verdict.text else _at(verdict.step)
        say(f"unstable ({verdict.reason}){where}: {verdict.text}")
        say(f"sent SIGTERM to {name}; SIGKILL follows after {seconds(options.grace_seconds)}")
        say(_last_good(verdict, options))

    name = run.name
    ended = run.stop(options.grace_seconds, explain)
    if isinstance(run, Command):
        run.finish_output()
    took, grace = seconds(time.monotonic() - began), seconds(options.grace_seconds)
    say(f"the run ended {took} after SIGTERM" if ended else f"the run did not end within {grace} of SIGTERM: killed")


def _last_good(verdict: Unstable, options: WatchOptions) -> str:
    """Say which step is good, and which checkpoint to resume from."""
    step = verdict.last_good_step
    if step is None:
        return "no step is known to be good; no checkpoint found"
    if not verdict.counts_steps:
        text = f"the last good loss is number {step} in the log, counted from 0"
        return f"{text}; the log has no step column, so no checkpoint can be named"
    folder = options.checkpoints
    try:
        checkpoint = newest_checkpoint(folder, step)
    except (OSError, RecursionError):
        checkpoint = None
    if checkpoint is None:
        return f"the last good step is {step}; no checkpoint found at or before it in {folder}"
    is_old = checkpoint.modified < options.started_at
    older = ", written before this run was started" if is_old else ""
    return f"the last good step is {step}; newest checkpoint at or before it: {checkpoint.path}{older}"


def _at(step: int | None) -> str:
    return "" if step is None else f" at step {step}"


def _say_what_was_seen(reports: Sequence[Report], options: WatchOptions, say: Say) -> None:
    """Say how a run that ended by itself looked."""
    for report in reports:
        match report:
            case Unstable():
                say(f"the run ended before it was stopped, but it was unstable ({report.reason}){_at(report.step)}")
                say(_last_good(report, options))
                return
            case Watched(points=0):
                say(f"the run was not watched: {report.problem or f'no loss in {options.log.shown}'}")
            case Watched():
                say(f"not unstable: {count(report.points, 'loss', 'losses')} of {report.loss_column!r} judged")
            case str():
                say(report)


@contextmanager
def _passed_on() -> Iterator[Callable[[Command], None]]:
    """Pass the signals that this process gets on to the command, as soon as there is one.

    A signal that is ignored here, as SIGHUP below `nohup`, is left to be ignored there.
    """
    command: list[Command] = []
    waiting: list[int] = []

    def pass_on(number: int, _frame: Any) -> None:
        if command:
            command[0].signal(number)
        else:
            waiting.append(number)

    def suspend(_number: int, _frame: Any) -> None:
        if command:
            command[0].signal(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        if command:
            command[0].signal(signal.SIGCONT)

    def pass_on_to(run: Command) -> None:
        command.append(run)
        for number in waiting:
            run.signal(number)

    handlers: dict[signal.Signals, Any] = dict.fromkeys(PASSED_ON, pass_on) | {signal.SIGTSTP: suspend}
    before = {one: signal.getsignal(one) for one in handlers}
    for one, handler in handlers.items():
        if before[one] is not signal.SIG_IGN:
            signal.signal(one, handler)
    try:
        yield pass_on_to
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
