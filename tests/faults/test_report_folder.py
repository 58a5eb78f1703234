"""Something is in the way of a file that the session writes. Before the session starts, it is a usage error; later,
the verdicts stand and the session fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.files import file_name
from tests.faults.session import SHORT_RECIPE, FaultSession
from tests.faults.table import Fault, assert_outcome, assert_seen, rows

SUBJECT = "Files in the way of the report"
REFUSED = "exit status 4"


def a_file(path: Path) -> None:
    path.write_text("in the way")


def a_folder(path: Path) -> None:
    path.mkdir()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_broken_link(path: Path) -> None:
    path.symlink_to("nowhere")


def a_link_out(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


def a_loop(path: Path) -> None:
    path.symlink_to(path.name)


AT_START: dict[str, tuple[str, Callable[[Path], None]]] = {
    "report-is-a-file": ("", a_file),
    "report-is-a-broken-link": ("", a_broken_link),
    "verdicts-is-a-folder": ("verdicts.json", a_folder),
    "page-is-a-folder": ("index.html", a_folder),
    "lock-is-a-folder": (".lock", a_folder),
    "lock-is-a-pipe": (".lock", a_pipe),
    "link-out-of-the-report": ("traces", a_link_out),
    "link-to-itself": ("receipts", a_loop),
}
"""What is in the way when the session starts, and where in the report folder."""
FAULTS_AT_START = (
    Fault(
        name="report-is-a-file",
        happens="There is a file with the name of the report folder",
        verdict=REFUSED,
        sentence="ERROR: --smoke-report out: cannot create the folder: a file or a broken link has this name",
    ),
    Fault(
        name="report-is-a-broken-link",
        happens="The report folder is a link to nothing",
        verdict=REFUSED,
        sentence="ERROR: --smoke-report out: cannot create the folder: a file or a broken link has this name",
    ),
    Fault(
        name="verdicts-is-a-folder",
        happens="`verdicts.json` is a folder",
        verdict=REFUSED,
        sentence="ERROR: --smoke-report .../out: cannot write .../out/verdicts.json: Is a directory",
    ),
    Fault(
        name="page-is-a-folder",
        happens="`index.html` is a folder",
        verdict=REFUSED,
        sentence="ERROR: --smoke-report .../out: cannot write .../out/index.html: Is a directory",
    ),
    Fault(
        name="lock-is-a-folder",
        happens="`.lock` is a folder",
        verdict=REFUSED,
        sentence="ERROR: --smoke-report .../out: cannot write .../out/.lock: Is a directory",
    ),
    Fault(
        name="lock-is-a-pipe",
        happens="`.lock` is a named pipe",
        verdict=REFUSED,
        sentence="ERROR: --smoke-report .../out: cannot write .../out/.lock: not a regular file",
    ),
    Fault(
        name="link-out-of-the-report",
        happens="A link in the report folder leads out of it",
        verdict=REFUSED,
        sentence="ERROR: --smoke-report: .../out/traces is a symbolic link to /nowhere/at/all, outside of the report "
        "folder, where nothing must be written or removed: remove the link, or name another report folder",
    ),
    Fault(
        name="link-to-itself",
        happens="A link in the report folder leads to itself",
        verdict=REFUSED,
        sentence="ERROR: --smoke-report: .../out/receipts is a symbolic link that leads to itself: remove it",
    ),
)
FAULTS_OF_RUNS = (
    Fault(
        name="traces-is-a-file",
        happens="`traces` becomes a file while the session runs",
        verdict="promote",
        sentence="40 steps ran; traces/traces-is-a-file....csv could not be written: File exists",
    ),
    Fault(
        name="checkpoint-is-a-file",
        happens="The folder for the checkpoints of a smoke run is a file",
        verdict="promote",
        sentence="40 steps ran; ...; the trained checkpoint could not be written: .../checkpoints/...: File exists",
    ),
    Fault(
        name="predictions-is-a-file",
        happens="`predictions` becomes a file while the session runs",
        verdict="promote",
        sentence="FileExistsError: [Errno 17] File exists: '.../out/predictions'",
    ),
)
FAULTS_AT_END = (
    Fault(
        name="receipts-is-a-file",
        happens="`receipts` becomes a file while the session runs",
        verdict="exit status 1",
        sentence="ERROR: the receipt of traces-is-a-file.smoke.yaml::constant could not be written: Not a directory",
    ),
    Fault(
        name="page-becomes-a-folder",
        happens="`index.html` becomes a folder while the session runs",
        verdict="exit status 1",
        sentence="ERROR: .../out/index.html could not be written: Is a directory",
    ),
    Fault(
        name="sarif-becomes-a-folder",
        happens="`smoke.sarif` becomes a folder while the session runs",
        verdict="exit status 1",
        sentence="ERROR: .../out/smoke.sarif could not be written: Is a directory",
    ),
    Fault(
        name="summary-becomes-a-folder",
        happens="`summary.md` becomes a folder while the session runs",
        verdict="exit status 1",
        sentence="ERROR: .../out/summary.md could not be written: Is a directory",
    ),
)
VERDICTS_LOST = Fault(
    name="verdicts-becomes-a-folder",
    happens="`verdicts.json` becomes a folder while the session runs",
    verdict="exit status 1",
    sentence="ERROR: .../out/verdicts.json could not be written: Is a directory",
)
FAULTS = (*FAULTS_AT_START, VERDICTS_LOST, *FAULTS_OF_RUNS, *FAULTS_AT_END)


@rows(FAULTS_AT_START)
def test_a_session_is_refused_if_something_is_in_the_way(fault: Fault, session: FaultSession) -> None:
    name, put = AT_START[fault.name]
    if name:
        (session.path / "out").mkdir()
    put(session.path / "out" / name)
    result = session.pytest("--smoke-preflight", "--smoke-report", "out")
    assert_seen(fault, f"exit status {result.ret}", *result.errlines)
    assert "Traceback" not in result.stderr.str()


IN_THE_WAY = """
from pathlib import Path

def pytest_collection_finish(session):
    out = Path("out")
    for name in {files!r}:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("in the way")
    for name in {folders!r}:
        (out / name).mkdir(parents=True)
"""
PREDICTS = """
import tasks

class Predicts(tasks.Teacher):
    def predictions(self, model):
        return [{"raw": "a", "gold": [], "pred": []}]
"""


@pytest.fixture(scope="module")
def late(fault_session: Callable[[str], FaultSession]) -> tuple[pytest.RunResult, dict[str, dict[str, Any]]]:
    """Run a session in which files and folders get in the way once it has started."""
    with fault_session("late") as session:
        (session.path / "predicts.py").write_text(PREDICTS)
        for fault in FAULTS_OF_RUNS:
            session.recipe(fault.name, base=SHORT_RECIPE.replace("tasks:Teacher", "predicts:Predicts"))
        checkpoint = file_name("checkpoint-is-a-file.smoke.yaml::constant")
        files = ("traces", "predictions", "receipts", f"checkpoints/{checkpoint}")
        folders = ("index.html", "smoke.sarif", "summary.md")
        (session.path / "conftest.py").write_text(IN_THE_WAY.format(files=files, folders=folders))
        return session.pytest("--smoke", "--smoke-report", "out"), session.outcomes()


@rows(FAULTS_OF_RUNS)
def test_a_run_has_its_verdict_whatever_is_in_the_way_of_its_files(
    fault: Fault, late: tuple[pytest.RunResult, dict[str, dict[str, Any]]]
) -> None:
    outcome = late[1][fault.name]
    assert_outcome(fault, outcome)
    assert "trace" not in outcome["facts"]
    assert bool(outcome["facts"].get("checkpoint_problems")) == (fault.name == "checkpoint-is-a-file")


@rows(FAULTS_AT_END)
def test_a_session_that_cannot_write_its_report_fails(
    fault: Fault, late: tuple[pytest.RunResult, dict[str, dict[str, Any]]]
) -> None:
    result, outcomes = late
    assert_seen(fault, f"exit status {result.ret}", *result.outlines)
    assert {outcome["verdict"] for outcome in outcomes.values()} == {"promote"}


def test_a_session_that_cannot_write_its_verdicts_fails(session: FaultSession) -> None:
    session.recipe("good")
    (session.path / "conftest.py").write_text(
        "from pathlib import Path\n"
        "def pytest_collection_finish(session):\n"
        "    Path('out/verdicts.json').unlink()\n"
        "    Path('out/verdicts.json').mkdir()\n"
    )
    result = session.pytest("--smoke-preflight", "--smoke-report", "out")
    assert_seen(VERDICTS_LOST, f"exit status {result.ret}", *result.outlines)
