"""The machine, or a task, takes away what a session needs: room on a disk, open files, its folders. The other smoke
runs of the session have their verdicts nevertheless."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.session import SHORT_RECIPE, FaultSession
from tests.faults.table import Fault, assert_outcome, assert_seen, rows

SUBJECT = "The machine"
PROMOTED = "no rise in 40 points: loss fell from ... to ...; a lasting rise by ... would have been detected"

TAKEN_AWAY = (
    Fault(
        name="tmpdir-is-emptied",
        happens="A task empties the temporary directory",
        verdict="promote",
        sentence=PROMOTED,
    ),
    Fault(
        name="tmpdir-is-removed",
        happens="A task removes the temporary directory",
        verdict="promote",
        sentence=PROMOTED,
    ),
    Fault(
        name="report-is-emptied",
        happens="A task empties the report folder",
        verdict="promote",
        sentence=PROMOTED,
    ),
    Fault(
        name="report-is-removed",
        happens="A task removes the report folder",
        verdict="promote",
        sentence=PROMOTED,
    ),
)
REFUSED_BY_THE_SYSTEM = (
    Fault(
        name="too-many-open-files",
        happens="A session has too many open files to start a training process",
        verdict="error (internal-error)",
        sentence="the smoke run could not be executed and judged: Too many open files",
    ),
    Fault(
        name="tmpdir-does-not-exist",
        happens="There is no temporary directory, and it cannot be made",
        verdict="error (internal-error)",
        sentence="the smoke run could not be executed and judged: FileNotFoundError: [Errno 2] No such file or "
        "directory: '/proc/nowhere'",
    ),
    Fault(
        name="huge-timeout",
        happens="`--smoke-timeout` is 1e9 seconds",
        verdict="promote",
        sentence=PROMOTED,
    ),
)
DISKS = (
    Fault(
        name="full-disk",
        happens="The disk of the report folder is full",
        verdict="exit status 4",
        sentence="ERROR: --smoke-report .../out: cannot write .../out: No space left on device",
    ),
    Fault(
        name="disk-becomes-full",
        happens="The disk of the report folder becomes full while the session runs",
        verdict="exit status 1",
        sentence="ERROR: .../out/verdicts.json could not be written: No space left on device",
    ),
    Fault(
        name="report-is-read-only",
        happens="The file system of the report folder is read-only",
        verdict="exit status 4",
        sentence="ERROR: --smoke-report .../out: cannot write .../out/.lock: Read-only file system",
    ),
    Fault(
        name="file-size-limit",
        happens="The system limits the size of files (`ulimit -f`)",
        verdict="exit status 1",
        sentence="ERROR: .../out/verdicts.json could not be written: File too large",
    ),
)
FAULTS = (*DISKS, *REFUSED_BY_THE_SYSTEM, *TAKEN_AWAY)

TAKES = """
import os
import tasks
from empties import empty

class Takes(tasks.Teacher):
    def __init__(self, what, how):
        super().__init__()
        self.what, self.how, self.calls = what, how, 0

    def losses(self, model, batch):
        self.calls += 1
        if self.calls == 30:
            folder = os.environ["TMPDIR"] if self.what == "tmpdir" else "out"
            empty(folder, remove=self.how == "removed")
        return super().losses(model, batch)
"""


@pytest.fixture(scope="module")
def taken(fault_session: Callable[[str], FaultSession]) -> dict[str, dict[str, Any]]:
    """Run a session with a fork server of its own, whose folders its tasks remove."""
    with fault_session("taken") as session:
        (session.path / "takes.py").write_text(TAKES)
        base = SHORT_RECIPE.replace("tasks:Teacher", "takes:Takes")
        for fault in TAKEN_AWAY:
            what, _, how = fault.name.split("-")
            session.recipe(fault.name, f"args: {{what: {what}, how: {how}}}\n", base=base)
        session.recipe("z-healthy")
        session.pytest_process("--smoke", "--smoke-report", "out", "--smoke-timeout", "60")
        return session.outcomes()


@rows(TAKEN_AWAY)
def test_a_task_that_removes_folders_of_the_session(fault: Fault, taken: dict[str, dict[str, Any]]) -> None:
    assert_outcome(fault, taken[fault.name])


def test_a_run_after_such_tasks_is_promoted(taken: dict[str, dict[str, Any]]) -> None:
    assert taken["z-healthy"]["verdict"] == "promote"


BREAKS = """
import os, resource, tempfile
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if "too-many-open-files" in item.nodeid:
        free = os.open("/", os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 5, hard))  # a lock, a pipe, and half a pipe
    tempfile.tempdir = "/proc/nowhere" if "tmpdir-does-not-exist" in item.nodeid else None
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
"""


@pytest.fixture(scope="module")
def refused(fault_session: Callable[[str], FaultSession]) -> dict[str, dict[str, Any]]:
    """Run a session in which the system refuses what single runs need."""
    with fault_session("refused") as session:
        (session.path / "conftest.py").write_text(BREAKS)
        for fault in REFUSED_BY_THE_SYSTEM:
            session.recipe(fault.name)
        session.recipe("healthy")
        session.pytest("--smoke", "--smoke-report", "out", "--smoke-timeout", "1e9")
        return session.outcomes()


@rows(REFUSED_BY_THE_SYSTEM)
def test_what_the_system_refuses_is_said(fault: Fault, refused: dict[str, dict[str, Any]]) -> None:
    assert_outcome(fault, refused[fault.name])
    assert refused["healthy"]["verdict"] == "promote"


MOUNTS = {
    "full-disk": "mount -t tmpfs -o size=4k tmpfs out && echo 0123456789 > out/full; "
    "head -c 100000 /dev/zero >> out/full",
    "disk-becomes-full": "mount -t tmpfs -o size=64k tmpfs out",
    "report-is-read-only": "mount -t tmpfs -o ro tmpfs out",
    "file-size-limit": "ulimit -f 1",
}
FILLS = """
def pytest_collection_finish(session):
    try:
        with open("out/filling", "wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
    except OSError:
        pass
"""


def mount_namespace() -> list[str]:
    """Return the start of a command line whose program may mount file systems; skip where nobody may."""
    for options in ((), ("--user", "--map-root-user")):
        command = ["unshare", "--mount", *options]
        if shutil.which("unshare") and not subprocess.run([*command, "true"], capture_output=True).returncode:
            return command
    return pytest.skip("the system allows no mount namespaces")


@rows(DISKS)
def test_disks_that_cannot_be_written_to_are_said(fault: Fault, session: FaultSession) -> None:
    """Mounts need a namespace of their own, which the system may not allow."""
    namespace = mount_namespace() if fault.name != "file-size-limit" else []
    (session.path / "out").mkdir()
    for name in ("a", "b", "c"):
        session.recipe(name)
    if fault.name == "disk-becomes-full":
        (session.path / "conftest.py").write_text(FILLS)
    shell = ["sh", "-c", f'({MOUNTS[fault.name]}) 2>/dev/null; exec "$@"', "sh"]
    if fault.name == "file-size-limit":
        shell = ["sh", "-c", f'{MOUNTS[fault.name]}; exec "$@"', "sh"]
    done = session.pytest_process("--smoke-preflight", "--smoke-report", "out", before=[*namespace, *shell])
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    assert_seen(fault, f"exit status {done.returncode}", *lines)
    assert not any("INTERNALERROR" in line or "Traceback" in line for line in lines)
    if done.returncode == 1:
        assert any("3 preflight ok" in line for line in lines)
