"""A command such as `judge` cannot do its work. Its exit status is then 2, never one that means a verdict: a launch
script must not stop a healthy trainer because a disk is full."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.session import FaultSession
from tests.faults.table import Fault, assert_seen, rows

SUBJECT = "The command line"
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
FULL = "/dev/full"
FAILED = "exit status 2"


@dataclass(frozen=True)
class Case:
    """A command, and what is done to its process."""

    args: tuple[str, ...]
    how: dict[str, Any] = field(default_factory=dict)
    full: tuple[str, ...] = ()
    """Streams that are on a full disk."""


def closed(stream: int) -> dict[str, Any]:
    return {"preexec_fn": lambda: os.close(stream)}


def limited(what: int, amount: int) -> dict[str, Any]:
    return {"preexec_fn": lambda: resource.setrlimit(what, (amount, amount))}


JUDGE = ("judge", "healthy.csv")
CASES = {
    "judge-on-a-full-disk": Case(JUDGE, full=("stdout",)),
    "judge-without-output": Case(JUDGE, closed(1)),
    "judge-where-errors-are-lost": Case(("judge", "diverges.csv"), full=("stderr",)),
    "judge-without-error-output": Case(("judge", "diverges.csv"), closed(2)),
    "judge-of-a-folder": Case(("judge", "empty")),
    "compare-on-a-full-disk": Case(("compare", "healthy.csv", "diverges.csv"), full=("stdout",)),
    "gate-without-output": Case(("gate", "a.smoke.yaml::constant"), closed(1)),
    "report-on-a-full-disk": Case(("report", "healthy.csv"), limited(resource.RLIMIT_FSIZE, 0)),
    "diagnose-without-memory": Case(("diagnose", "large.jsonl"), limited(resource.RLIMIT_AS, 2**28)),
    "merge-into-a-file": Case(("merge", "empty", "empty", "--output", "healthy.csv")),
}
UNSTABLE = "diverges.csv: unstable (rise): loss rose from its lowest level, ..."
FAULTS = (
    Fault(
        name="judge-on-a-full-disk",
        happens="`judge` prints to a full disk",
        verdict=FAILED,
        sentence="judge: stopped: No space left on device",
    ),
    Fault(
        name="judge-without-output",
        happens="The standard output of `judge` is closed",
        verdict=FAILED,
        sentence="judge: the standard output is closed: nothing can be printed",
    ),
    Fault(
        name="judge-where-errors-are-lost",
        happens="The standard error of `judge` is on a full disk, and the log is unstable",
        verdict="exit status 3",
        sentence=UNSTABLE,
    ),
    Fault(
        name="judge-without-error-output",
        happens="The standard error of `judge` is closed, and the log is unstable",
        verdict="exit status 3",
        sentence=UNSTABLE,
    ),
    Fault(
        name="judge-of-a-folder",
        happens="`judge` gets a folder without a log",
        verdict=FAILED,
        sentence="empty: error (no-log): no log in this folder: searched for ...",
    ),
    Fault(
        name="compare-on-a-full-disk",
        happens="`compare` prints to a full disk",
        verdict=FAILED,
        sentence="compare: stopped: No space left on device",
    ),
    Fault(
        name="gate-without-output",
        happens="The standard output of `gate` is closed",
        verdict=FAILED,
        sentence="gate: the standard output is closed: nothing can be printed",
    ),
    Fault(
        name="report-on-a-full-disk",
        happens="`report` cannot write its page",
        verdict=FAILED,
        sentence="report: report.html could not be written: File too large",
    ),
    Fault(
        name="diagnose-without-memory",
        happens="`diagnose` reads a file that does not fit into memory",
        verdict=FAILED,
        sentence="diagnose: stopped: not enough memory",
    ),
    Fault(
        name="merge-into-a-file",
        happens="`merge` writes to a folder, and a file has its name",
        verdict=FAILED,
        sentence="merge: .../healthy.csv exists and is not a folder: name a new folder with --output",
    ),
)


@pytest.fixture(scope="module")
def project(fault_session: Callable[[str], FaultSession]) -> FaultSession:
    """Return a folder with logs."""
    session = fault_session("command-line")
    for name in ("healthy", "diverges"):
        (session.path / f"{name}.csv").write_bytes((EXAMPLES / f"{name}.csv").read_bytes())
    (session.path / "empty").mkdir()
    with (session.path / "large.jsonl").open("wb") as file:
        file.truncate(2**30)  # sparse: it takes no room
    return session


@rows(FAULTS)
def test_a_command_that_fails_has_no_exit_status_of_a_verdict(fault: Fault, project: FaultSession) -> None:
    case = CASES[fault.name]
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with open(FULL, "w") as full:
        done = project.run("-m", "pytest_smoke", *case.args, **streams | dict.fromkeys(case.full, full) | case.how)
    lines = f"{done.stdout or ''}\n{done.stderr or ''}".splitlines()
    assert_seen(fault, f"exit status {done.returncode}", *lines)
    assert not any("Traceback" in line for line in lines)
    project.assert_nothing_left()
