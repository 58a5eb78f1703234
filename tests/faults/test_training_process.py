"""The task does something to the process that it trains in. Other smoke runs of the session do not notice."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.session import SHORT_RECIPE, FaultSession
from tests.faults.table import Fault, assert_outcome, rows

SUBJECT = "The training process"

TASK = """
import os
import signal
import sys
import time

import tasks


def write_to_pytest(data):
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket"):
                os.write(int(name), data)
        except OSError:
            pass


class Unprintable(Exception):
    def __str__(self):
        raise ValueError("no text")


class Faulty(tasks.Teacher):
    def __init__(self, how):
        super().__init__()
        self.how, self.calls = how, 0
        if how == "killed-at-once":
            os.kill(os.getpid(), signal.SIGKILL)

    def losses(self, model, batch):
        self.calls += 1
        if self.calls == 30:
            getattr(self, self.how.replace("-", "_"))()
        return super().losses(model, batch)

    def exits(self):
        sys.exit(0)

    def exits_at_once(self):
        os._exit(0)

    def garbage(self):
        write_to_pytest(b"Epoch 1: loss 0.3\\n")

    def oversized_frame(self):
        write_to_pytest(b"\\x7f\\xff\\xff\\xff")

    def malformed_frame(self):
        write_to_pytest(b"\\0\\0\\0\\3abc")

    def closes_pipes(self):
        os.closerange(3, 1000)

    def segfaults(self):
        import ctypes
        ctypes.string_at(0)

    def killed_beside_a_helper(self):
        if not os.fork():
            os.setsid()
            time.sleep(600)
        os.kill(os.getpid(), signal.SIGKILL)

    def copies_itself(self):
        os.fork()

    def surrogate(self):
        raise OSError(2, "no file", "caf\\udce9.txt")

    def unprintable(self):
        raise Unprintable

    def long_message(self):
        raise ValueError("x" * 60_000_000)

    def prints_much(self):
        print("x" * 50_000_000)
        sys.stderr.write("y" * 50_000_000)
        raise ValueError("after all that")

    def logs_binary(self):
        os.write(2, bytes(range(256)) * 10_000)
        raise ValueError("after all that")

    def evaluate(self, model):
        return {letter * 5_000_000: 0.5 for letter in "abc"} if self.how == "long-names" else {}

    def long_names(self):
        pass

    def slow_exit(self):
        import atexit
        atexit.register(time.sleep, 600)
        raise ValueError("after all that")

    def escape_sequences(self):
        raise ValueError("\\x1b[2J\\x00\\x07red")

    def recurses(self):
        self.recurses()

    def memory(self):
        raise MemoryError

    def changes_folder(self):
        os.chdir("/")
"""
CRASHED = "error (crash)"
RAISED = "error (exception)"
PROMOTED = "no rise in 40 points: loss fell from ... to ...; a lasting rise by ... would have been detected"

FAULTS = (
    Fault(
        name="killed-at-once",
        happens="The training process is killed before the first step, as by the kernel when memory runs out",
        verdict=CRASHED,
        sentence="the training process failed: it was killed by SIGKILL, as the kernel does when memory runs out "
        "(before the first step)",
    ),
    Fault(
        name="exits-at-once",
        happens="The task calls `os._exit(0)`",
        verdict=CRASHED,
        sentence="the training process ended without reporting a result (after step ...)",
    ),
    Fault(
        name="exits",
        happens="The task calls `sys.exit(0)`",
        verdict=RAISED,
        sentence="SystemExit: 0 at faulty.py:... (after step ...)",
    ),
    Fault(
        name="segfaults",
        happens="A native library crashes",
        verdict=CRASHED,
        sentence="the training process failed: it was killed by SIGSEGV (after step ...)",
    ),
    Fault(
        name="killed-beside-a-helper",
        happens="The training process is killed, while a helper that it has forked keeps the pipe to pytest open",
        verdict=CRASHED,
        sentence="the training process failed: it was killed by SIGKILL, as the kernel does when memory runs out "
        "(after step ...)",
    ),
    Fault(
        name="garbage",
        happens="Text is written to the pipe to pytest",
        verdict=CRASHED,
        sentence="the training process failed: it sent more than 67.1 MB at once, or invalid data, to pytest "
        "(after step ...)",
    ),
    Fault(
        name="oversized-frame",
        happens="The header of a message to pytest announces 2 GB",
        verdict=CRASHED,
        sentence="the training process failed: it sent more than 67.1 MB at once, or invalid data, to pytest "
        "(after step ...)",
    ),
    Fault(
        name="malformed-frame",
        happens="The pipe has a report that cannot be decoded",
        verdict=CRASHED,
        sentence="the training process failed: it sent invalid data to pytest (UnpicklingError) (after step ...)",
    ),
    Fault(
        name="closes-pipes",
        happens="The task closes all open files of its process, the pipe to pytest included",
        verdict=CRASHED,
        sentence="the training process failed: it ended with exit status 1 (after step ...)",
    ),
    Fault(
        name="copies-itself",
        happens="The training process forks, and the copy trains on",
        verdict="promote",
        sentence=PROMOTED,
    ),
    Fault(
        name="changes-folder",
        happens="The task changes the working directory",
        verdict="promote",
        sentence=PROMOTED,
    ),
    Fault(
        name="surrogate",
        happens="The message of an exception has a file name that is not UTF-8",
        verdict=RAISED,
        sentence="FileNotFoundError: [Errno 2] no file: 'caf\\udce9.txt' at faulty.py:... (after step ...)",
    ),
    Fault(
        name="unprintable",
        happens="The message of an exception cannot be computed",
        verdict=RAISED,
        sentence="Unprintable: (its message cannot be shown: ValueError) at faulty.py:... (after step ...)",
    ),
    Fault(
        name="long-message",
        happens="The message of an exception has 60 MB",
        verdict=RAISED,
        sentence="ValueError: xxx...xxx at faulty.py:... (after step ...)",
    ),
    Fault(
        name="prints-much",
        happens="The task prints lines of 50 MB to both standard streams, and raises",
        verdict=RAISED,
        sentence="ValueError: after all that at faulty.py:... (after step ...)",
    ),
    Fault(
        name="logs-binary",
        happens="The task writes binary data to standard error, and raises",
        verdict=RAISED,
        sentence="ValueError: after all that at faulty.py:... (after step ...)",
    ),
    Fault(
        name="slow-exit",
        happens="The task raises, and its process does not exit",
        verdict=RAISED,
        sentence="ValueError: after all that at faulty.py:... (after step ...)",
    ),
    Fault(
        name="long-names",
        happens="The names of metrics have 5 MB each",
        verdict="promote",
        sentence=PROMOTED,
    ),
    Fault(
        name="escape-sequences",
        happens="The message of an exception would clear the terminal",
        verdict=RAISED,
        sentence="ValueError: \\x1b[2J\\x00\\x07red at faulty.py:... (after step ...)",
    ),
    Fault(
        name="recurses",
        happens="A method of the task calls itself without end",
        verdict=RAISED,
        sentence="RecursionError: maximum recursion depth exceeded at faulty.py:... (after step ...)",
    ),
    Fault(
        name="memory",
        happens="Python cannot allocate memory",
        verdict="error (out-of-memory)",
        sentence="MemoryError at faulty.py:... (after step ...)",
    ),
)
HEALTHY = ("healthy-a", "m-healthy", "z-healthy")


@pytest.fixture(scope="module")
def outcomes(fault_session: Callable[[str], FaultSession]) -> dict[str, dict[str, Any]]:
    """Run every fault in one session."""
    with fault_session("training") as session:
        (session.path / "faulty.py").write_text(TASK)
        for name in (fault.name for fault in FAULTS):
            base = SHORT_RECIPE.replace("tasks:Teacher", "faulty:Faulty")
            session.recipe(name, f"args: {{how: {name}}}\n", base=base)
        for name in HEALTHY:
            session.recipe(name)
        session.pytest("--smoke", "--smoke-report", "out", "--smoke-timeout", "60")
        return session.outcomes()


@rows(FAULTS)
def test_what_a_task_does_to_its_process(fault: Fault, outcomes: dict[str, dict[str, Any]]) -> None:
    assert_outcome(fault, outcomes[fault.name])
    assert len(json.dumps(outcomes[fault.name])) < 100_000  # also of a message of 60 MB


@pytest.mark.parametrize("name", HEALTHY)
def test_other_runs_of_the_session_are_promoted(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    outcome = outcomes[name]
    assert (outcome["verdict"], outcome["facts"]["steps"]) == ("promote", 40)
