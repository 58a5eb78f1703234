"""A worker of pytest-xdist is killed. Its smoke run is an error, and the GPU that it had is free for the others."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.session import MARKER, OWN_SERVER, SHORT_RECIPE, FaultSession
from tests.faults.table import Fault, assert_outcome, rows

SUBJECT = "Workers of pytest-xdist"

TASK = """
import multiprocessing
import os
import signal
import time

import tasks


class KillsItsWorker(tasks.Teacher):
    steps = 0

    def losses(self, model, batch):
        self.steps += model.training
        if self.steps == 30:
            os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
            time.sleep(600)
        return super().losses(model, batch)
"""
CONFTEST = """
import os
import signal
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    if item.nodeid.startswith("before"):
        os.kill(os.getpid(), signal.SIGKILL)
"""
KILLED = "the pytest-xdist worker ... was killed by SIGKILL, as the kernel does when memory runs out"
FAULTS = (
    Fault(
        name="worker-killed-in-a-run",
        happens="A worker is killed while its smoke run trains",
        verdict="error (worker-crash)",
        sentence=f"{KILLED}; its smoke run had reported ...",
    ),
    Fault(
        name="worker-killed-before-a-run",
        happens="The worker that replaces it is killed before its smoke run begins",
        verdict="error (worker-crash)",
        sentence=KILLED,
    ),
    Fault(
        name="worker-not-replaced",
        happens="No worker is left, and `--max-worker-restart` allows no new one",
        verdict="error (no-outcome)",
        sentence="the item was collected, and pytest ended without a result of it",
    ),
)
RECIPES = {"killed": 60, "left": 50, "before": 40}
"""Steps of each recipe but `good`. The longest runs start first; what a killed worker had next starts last."""
OF_RECIPE = dict(zip(("killed", "before", "left"), (fault.name for fault in FAULTS), strict=True))
STAGED = """\
task: tasks:Teacher
full: {batch_size: 64, learning_rate: 3.0e-3, warmup_steps: 10}
smoke: {change: new-recipe}
stages:
  - {name: A, full_steps: 4000, steps: 60}
  - {name: B, full_steps: 6000, steps: 60}
"""


@pytest.fixture(scope="module")
def seen(
    fault_session: Callable[[str], FaultSession],
) -> Iterator[tuple[dict[str, dict[str, Any]], dict[int, set[int]], str]]:
    """Yield the outcomes of one session, the fork servers of each of its processes, and what it printed."""
    with fault_session("workers") as session:
        (session.path / "kills.py").write_text(TASK)
        (session.path / "conftest.py").write_text(CONFTEST)
        session.recipe("good", base=STAGED)
        for name, steps in RECIPES.items():
            task = "kills:KillsItsWorker" if name == "killed" else "tasks:Teacher"
            base = SHORT_RECIPE.replace("max_steps: 40\n", f"max_steps: {steps}\n")
            session.recipe(name, base=base.replace("tasks:Teacher", task))
        options = ("--smoke", "--smoke-report", "out", "-n", "1", "--max-worker-restart", "1", "--basetemp", "basetemp")
        arguments = [sys.executable, "-m", "pytest", *OWN_SERVER, *options]
        with subprocess.Popen(
            arguments, cwd=session.path, env=session.environment(), stdout=subprocess.PIPE, text=True
        ) as process:
            servers: dict[int, set[int]] = {}
            while process.poll() is None:
                for parent, server in fork_servers(session.environment()[MARKER]):
                    servers.setdefault(parent, set()).add(server)
                time.sleep(0.02)
            assert process.stdout is not None
            printed = process.stdout.read()
            print(printed)
        yield session.outcomes(), servers, printed


def fork_servers(marker: str) -> Iterator[tuple[int, int]]:
    """Yield the fork servers with a marker in their environment, each behind the process that started it.

    A training process has the same command line, and a fork server for its parent.
    """
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_server = b"multiprocessing.forkserver" in (folder / "cmdline").read_bytes()
            if is_server and f"{MARKER}={marker}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    yield from ((parent, server) for server, parent in parents.items() if parent not in parents and parent != 1)


@rows(FAULTS)
def test_what_a_killed_worker_does_to_its_runs(
    fault: Fault, seen: tuple[dict[str, dict[str, Any]], dict[int, set[int]], str]
) -> None:
    outcomes, *_ = seen
    (name,) = (name for name, row in OF_RECIPE.items() if row == fault.name)
    assert_outcome(fault, outcomes[name])


def test_a_worker_has_one_fork_server_for_all_runs_and_stages(
    seen: tuple[dict[str, dict[str, Any]], dict[int, set[int]], str],
) -> None:
    """Two workers have executed runs that train, or begun to; none needs a fork server before."""
    outcomes, servers, _ = seen
    assert outcomes["good"]["verdict"] == "promote"
    assert outcomes["good"]["facts"]["steps"] == 120
    assert [len(found) for found in servers.values()] == [1]


def test_the_short_summary_calls_the_run_of_a_killed_worker_an_error_as_any_other(
    seen: tuple[dict[str, dict[str, Any]], dict[int, set[int]], str],
) -> None:
    *_, printed = seen
    summary = printed.partition("short test summary info")[2]
    assert "ERROR killed.smoke.yaml::constant" in summary
    assert "FAILED" not in summary
