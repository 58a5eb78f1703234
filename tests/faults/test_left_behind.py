"""A task starts programs, threads or copies of its process, or is killed with them. All of them end with the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.faults.session import OWN_SERVER, SHORT_RECIPE, FaultSession
from tests.faults.table import Fault, assert_outcome, assert_seen, rows
from tests.plugin.conftest import hear_ctrl_c

SUBJECT = "Programs and threads that a task starts"

TASK = """
import atexit
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import torch

import tasks

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]
NOWHERE = {name: subprocess.DEVNULL for name in ("stdin", "stdout", "stderr")}


class Faulty(tasks.Teacher):
    def __init__(self, how):
        super().__init__()
        self.how, self.steps = how, 0

    def losses(self, model, batch):
        self.steps += model.training
        if self.steps == 30 and model.training:
            getattr(self, self.how.replace("-", "_"))()
        if pathlib.Path("slow").exists():
            pathlib.Path("slow").write_text(str(self.steps))
            time.sleep(0.02)
        return super().losses(model, batch)

    def killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def daemon(self):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)

    def daemon_and_kill(self):
        self.daemon()
        self.killed()

    def daemon_and_exit(self):
        self.daemon()
        os._exit(0)

    def copy_without_files(self):
        if os.fork() == 0:
            os.setsid()
            os.closerange(0, 4096)
            time.sleep(600)

    def helper(self):
        subprocess.Popen(SLEEPS, start_new_session=True)

    def helper_without_environment(self):
        subprocess.Popen(SLEEPS, start_new_session=True, env={}, **NOWHERE)
        time.sleep(1)
        self.killed()

    def pool(self):
        self.workers = multiprocessing.Pool(2)

    def manager(self):
        self.shared = multiprocessing.Manager().dict()

    def thread(self):
        threading.Thread(target=time.sleep, args=(600,)).start()

    def exit_handler(self):
        atexit.register(time.sleep, 600)

    def shared_memory(self):
        torch.multiprocessing.set_sharing_strategy("file_system")
        self.shared = torch.zeros(1000).share_memory_()
        self.killed()

    def hangs(self):
        self.helper()
        time.sleep(600)

    def goes_on(self):
        self.helper()
"""
PROMOTED = "no rise in 40 points: loss fell from ... to ...; a lasting rise by ... would have been detected"
KILLED = (
    "the training process failed: it was killed by SIGKILL, as the kernel does when memory runs out (after step 28...)"
)

IN_ONE_SESSION = (
    Fault(
        name="daemon",
        happens="The task starts a daemon, and trains to the end",
        verdict="promote",
        sentence=PROMOTED,
    ),
    Fault(
        name="daemon-and-kill",
        happens="The task starts a daemon, and the training process is killed",
        verdict="error (crash)",
        sentence=KILLED,
    ),
    Fault(
        name="daemon-and-exit",
        happens="The task starts a daemon, and calls `os._exit(0)`",
        verdict="error (crash)",
        sentence="the training process ended without reporting a result (after step 28...)",
    ),
    Fault(
        name="copy-without-files",
        happens="The training process forks, and the copy closes its files and sleeps in a session of its own",
        verdict="promote",
        sentence=PROMOTED,
    ),
    Fault(
        name="helper-without-environment",
        happens="A program with an empty environment runs in a session of its own, and the training process is killed",
        verdict="error (crash)",
        sentence=KILLED,
    ),
    Fault(
        name="pool",
        happens="The task does not close its pool of workers",
        verdict="promote",
        sentence=PROMOTED,
    ),
    Fault(
        name="manager",
        happens="The task does not shut down its `multiprocessing.Manager`",
        verdict="promote",
        sentence=PROMOTED,
    ),
    Fault(
        name="thread",
        happens="A thread of the task runs for ten minutes",
        verdict="promote",
        sentence=PROMOTED,
    ),
    Fault(
        name="exit-handler",
        happens="The task registers an exit handler that takes ten minutes",
        verdict="promote",
        sentence=PROMOTED,
    ),
    Fault(
        name="shared-memory",
        happens="Tensors are in shared memory by torch's `file_system` strategy, and the training process is killed",
        verdict="error (crash)",
        sentence=KILLED,
    ),
)
HANGS = Fault(
    name="hangs",
    happens="The task sleeps for ten minutes, and has started a program in a session of its own",
    verdict="error (hang)",
    sentence="the training process made no progress for 4.0 s and was killed at faulty.py:... (after step 28...)",
)
INTERRUPTED = Fault(
    name="ctrl-c",
    happens="Ctrl-C in the middle of a run",
    verdict="inconclusive (interrupted)",
    sentence="interrupted after step ...",
)
PYTEST_KILLED = Fault(
    name="pytest-killed",
    happens="pytest is killed while a task trains that has started a program, and starts again with `--smoke-resume`",
    verdict="promote",
    sentence="interrupted, and resumed at step ...",
)
FAULTS = (*IN_ONE_SESSION, HANGS, INTERRUPTED, PYTEST_KILLED)


def write(session: FaultSession, *names: str) -> None:
    """Write a recipe for each name."""
    (session.path / "faulty.py").write_text(TASK)
    base = SHORT_RECIPE.replace("tasks:Teacher", "faulty:Faulty")
    for name in names:
        session.recipe(name, f"args: {{how: {name}}}\n", base=base)


@pytest.fixture(scope="module")
def outcomes(fault_session: Callable[[str], FaultSession]) -> dict[str, dict[str, Any]]:
    """Run all of these faults in one session."""
    with fault_session("left") as session:
        write(session, *(fault.name for fault in IN_ONE_SESSION))
        session.recipe("zz-healthy")
        session.pytest("--smoke", "--smoke-report", "out", "--smoke-timeout", "60")
        return session.outcomes()


@rows(IN_ONE_SESSION)
def test_what_a_task_leaves_behind(fault: Fault, outcomes: dict[str, dict[str, Any]]) -> None:
    assert_outcome(fault, outcomes[fault.name])
    assert outcomes[fault.name]["facts"]["seconds"] < 30


def test_a_healthy_run_after_them_is_promoted(outcomes: dict[str, dict[str, Any]]) -> None:
    assert outcomes["zz-healthy"]["verdict"] == "promote"


@rows([HANGS])
def test_a_hang_is_ended_with_all_that_was_started(fault: Fault, session: FaultSession) -> None:
    write(session, fault.name)
    session.pytest("--smoke", "--smoke-report", "out", "--smoke-timeout", "4")
    assert_outcome(fault, session.outcomes()[fault.name])


@contextmanager
def started(session: FaultSession, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start pytest on a recipe that trains slowly, and wait until it has made 60 steps."""
    (session.path / "slow").touch()
    write(session)
    base = SHORT_RECIPE.replace("tasks:Teacher", "faulty:Faulty").replace("max_steps: 40", "max_steps: 400")
    session.recipe("a", "args: {how: goes-on}\n", base=base)
    command = [sys.executable, "-m", "pytest", "--smoke", *OWN_SERVER, "--smoke-report", "out", *options]
    with subprocess.Popen(
        command, cwd=session.path, env=session.environment(), preexec_fn=hear_ctrl_c, stdout=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 120
        while int((session.path / "slow").read_text() or 0) < 60:
            assert time.monotonic() < deadline, "the run did not start"
            time.sleep(0.05)
        (session.path / "slow").unlink()
        yield process


@rows([INTERRUPTED])
def test_ctrl_c_leaves_the_outcome_and_the_trace_of_the_run_in_progress(fault: Fault, session: FaultSession) -> None:
    session.recipe("b")
    with started(session) as process:
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=120)[0].decode()
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    outcomes = session.outcomes()
    assert outcomes.keys() == {"a"}
    assert_outcome(fault, outcomes["a"])
    rows = (session.path / "out" / outcomes["a"]["facts"]["trace"]).read_text().splitlines()
    assert len(rows) - 1 == outcomes["a"]["facts"]["steps"] > 20
    assert outcomes["a"]["text"].endswith(f" {len(rows) - 2}")
    assert "ended without an outcome of 1 smoke run: b.smoke.yaml::constant" in printed


@rows([PYTEST_KILLED])
def test_a_killed_session_leaves_nothing_after_the_next_one(fault: Fault, session: FaultSession) -> None:
    with started(session, "--smoke-resume") as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    session.pytest_process("--smoke", "--smoke-report", "out", "--smoke-resume")  # it has the same temporary directory
    outcome = session.outcomes()["a"]
    assert_seen(fault, outcome["verdict"], *(finding["text"] for finding in outcome["findings"]))
