"""A recipe with `command` starts a program that misbehaves. What it started ends with it, however it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.session import FaultSession
from tests.faults.table import Fault, assert_outcome, rows

SUBJECT = "A command of a recipe"
RECIPE = """\
command: ["{{python}}", faulty.py, {how}, "{{learning_rate}}", "{{max_steps}}", "{{batch_size}}"]
full: {{batch_size: 64, learning_rate: 3.0e-3, max_steps: 20000}}
smoke: {{max_steps: 40}}
"""
PROGRAM = """
import os, signal, sys, time

how, rate, steps = sys.argv[1:4]
while how == "endless":
    sys.stdout.write("x" * 1_000_000)
if how == "binary":
    os.write(1, bytes(range(256)) * 1000)
    sys.exit()
for step in range(int(steps)):
    print(f"step: {step} loss: {2 / (step + 1) ** 0.5:.5f} lr: {rate}", flush=True)
    if step == 20:
        match how:
            case "signal":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "status":
                sys.exit(3)
            case "raises":
                raise FileNotFoundError(2, "No such file", "labels.txt")
            case "long-line":
                print("y" * 20_000_000)
            case "daemon" if not os.fork():
                os.setsid()
                if not os.fork():
                    time.sleep(600)
                os._exit(0)
            case "guard":
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(600)
            case "closed":
                os.close(1)
                os.close(2)
                sys.stdout = sys.stderr = None
                sys.exit()
"""
PROMOTED = "no rise in 40 points: loss fell from 1.707 to 0.3182; ..."
FAULTS = (
    Fault(
        name="command-signal",
        happens="The command is killed by a signal",
        verdict="error (crash)",
        sentence="the command ended with signal 11 (after step 20)",
    ),
    Fault(
        name="command-status",
        happens="The command exits with a status other than 0",
        verdict="error (crash)",
        sentence="the command ended with exit status 3 (after step 20)",
    ),
    Fault(
        name="command-raises",
        happens="The command raises an exception",
        verdict="error (exception)",
        sentence="the command ended with exit status 1: FileNotFoundError: [Errno 2] No such file: 'labels.txt' at "
        "faulty.py:... (after step 20)",
    ),
    Fault(
        name="command-closed",
        happens="The command closes its output and exits with status 0 before the last step",
        verdict="error (ended-early)",
        sentence="the command ended with exit status 0, but its log ends at step 20: the smoke run has 40 steps",
    ),
    Fault(
        name="command-guard",
        happens="The process that watches the command, and ends what it has started, is killed",
        verdict="error (crash)",
        sentence="the command ended with signal 9 (after step 20)",
    ),
    Fault(
        name="command-endless",
        happens="The command prints without end: it is stopped before it fills the disk",
        verdict="error (log-too-large)",
        sentence="the command printed more than 256 MiB, which is not read, and was stopped (before the first step in "
        "the log)",
    ),
    Fault(
        name="command-binary",
        happens="The command prints binary data",
        verdict="error (no-loss)",
        sentence="the command ended with exit status 0, but what it prints cannot be judged: the log is not a text "
        "file",
    ),
    Fault(
        name="command-long-line",
        happens="The command prints a line of 20 MB",
        verdict="promote",
        sentence=PROMOTED,
    ),
    Fault(
        name="command-daemon",
        happens="The command leaves a daemon in a session of its own",
        verdict="promote",
        sentence=PROMOTED,
    ),
)


@pytest.fixture(scope="module")
def outcomes(fault_session: Callable[[str], FaultSession]) -> dict[str, dict[str, Any]]:
    """Run every fault in one session."""
    with fault_session("commands") as session:
        (session.path / "faulty.py").write_text(PROGRAM)
        for name in ("healthy", *(fault.name for fault in FAULTS)):
            session.recipe(name, base=RECIPE.format(how=name.removeprefix("command-")))
        session.pytest("--smoke", "--smoke-report", "out", "--smoke-timeout", "60")
        outcomes = session.outcomes()
        logs = sum(path.stat().st_size for path in (session.path / "out" / "logs").iterdir())
        assert logs < 30_000_000
        return outcomes


@rows(FAULTS)
def test_what_a_command_does(fault: Fault, outcomes: dict[str, dict[str, Any]]) -> None:
    assert_outcome(fault, outcomes[fault.name])


def test_another_command_of_the_session_is_promoted(outcomes: dict[str, dict[str, Any]]) -> None:
    assert (outcomes["healthy"]["verdict"], outcomes["healthy"]["facts"]["steps"]) == ("promote", 40)
