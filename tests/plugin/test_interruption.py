"""Ctrl-C and the signals that end a job keep every result: real sessions, real signals."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pexpect
import pytest

from tests.conftest import OPTIONS
from tests.plugin.conftest import RECIPE, Project, hear_ctrl_c

TASKS = """
import os, pathlib, signal, time
import tasks

class Waits(tasks.Teacher):
    calls = 0

    def __init__(self, at, name):
        self.at, self.name = at, name
        if at == "start":
            self.wait()
        super().__init__()

    def wait(self):
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        pathlib.Path(f"waits-{self.name}").write_text(f"{os.getpid()} {len(blocked)}")
        time.sleep(600)

    def losses(self, model, batch):
        self.calls += 1
        if self.at == "step" and self.calls > 150:
            self.wait()
        return super().losses(model, batch)

    def evaluate(self, model):
        if self.at == "evaluate" and self.calls > 100:
            self.wait()
        return {}
"""
TRAINER = """
import os, pathlib, time
for step in range(1000):
    print(f"step {step}: loss {2 - step / 1000:.3f} lr 0.001", flush=True)
    if step == 60:
        time.sleep(0.5)  # so that the lines so far are read
        pathlib.Path("waits-command").write_text(f"{os.getpid()} 0")
        time.sleep(600)
"""
COMMAND_RECIPE = f"""\
command: [{sys.executable}, trainer.py]
log: stdout
full: {{batch_size: 64, learning_rate: 1.0e-3, max_steps: 20000}}
smoke: {{max_steps: 400}}
"""
PYTEST = ["-m", "pytest", "--smoke", "--smoke-report", "out", *OPTIONS, "-p", "no:cacheprovider"]


@pytest.fixture
def waiting(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Return a project with tasks that wait for ever; at the end, nothing of a session is left."""
    monkeypatch.setenv("TMPDIR", str(project.path / "tmp"))
    (project.path / "tmp").mkdir()
    (project.path / "waiting.py").write_text(TASKS)
    (project.path / "trainer.py").write_text(TRAINER)
    yield project
    left = [entry.name for entry in (project.path / "tmp").iterdir() if not entry.name.startswith("pytest-of")]
    assert left == []
    for path in project.path.glob("waits-*"):
        pid = int(path.read_text().split()[0])
        deadline = time.monotonic() + 60
        while Path(f"/proc/{pid}").exists():  # a guard process ends it
            assert time.monotonic() < deadline, f"{path.name}: process {pid} is left"
            time.sleep(0.02)


def waits(project: Project, name: str, at: str) -> None:
    args = f"args: {{at: {at}, name: {name}}}\n"
    project.recipe(name, args, base=RECIPE.replace("tasks:Teacher", "waiting:Waits"))


def wait_for(project: Project, *names: str, shell: pexpect.spawn[str] | None = None) -> None:
    """Wait until the tasks wait, and read what a session prints to a terminal meanwhile."""
    deadline = time.monotonic() + 120
    while not all((project.path / f"waits-{name}").exists() for name in names):
        assert time.monotonic() < deadline, "the runs did not get that far"
        if shell is not None:
            shell.expect([pexpect.TIMEOUT, pexpect.EOF], timeout=0.05)
        else:
            time.sleep(0.05)


@contextmanager
def session(project: Project, *args: str) -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, *PYTEST, *args]
    with subprocess.Popen(
        arguments, cwd=project.path, preexec_fn=hear_ctrl_c, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def in_terminal(project: Project, *args: str) -> pexpect.spawn[str]:
    shell: pexpect.spawn[str] = pexpect.spawn(
        sys.executable,
        [*PYTEST, *args],
        cwd=project.path,
        encoding="utf-8",
        timeout=120,
        preexec_fn=hear_ctrl_c,
        env={**os.environ, "COLUMNS": "100"},
    )
    shell.logfile_read = io.StringIO()
    return shell


def printed_at_end(shell: pexpect.spawn[str]) -> str:
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == pytest.ExitCode.INTERRUPTED
    text: str = shell.logfile_read.getvalue()
    assert "Traceback" not in text
    assert "pytest_smoke/" not in text
    return text


@pytest.mark.parametrize(
    ("at", "text", "steps"),
    [("start", "interrupted before the first step", 0), ("evaluate", "interrupted after step 399", 400)],
)
def test_ctrl_c_twice_keeps_the_run_and_says_where_it_was(waiting: Project, at: str, text: str, steps: int) -> None:
    waits(waiting, "run", at)
    shell = in_terminal(waiting)
    wait_for(waiting, "run", shell=shell)
    shell.sendintr()
    shell.sendintr()
    printed = printed_at_end(shell)
    (outcome,) = waiting.verdicts()
    assert (outcome["verdict"], outcome["reason"], outcome["text"]) == ("inconclusive", "interrupted", text)
    assert outcome["facts"]["steps"] == steps
    assert bool(outcome["curve"].get("loss")) == bool(steps)
    assert ("trace" in outcome["facts"]) == bool(steps)
    assert f"run::constant: {text}" in printed
    assert "! KeyboardInterrupt !" in printed
    assert (waiting.path / "waits-run").read_text().split()[1] == "0", "signals are blocked in the training process"


def test_sigterm_to_the_controller_alone_ends_the_runs_of_its_workers(waiting: Project) -> None:
    """As when a CI job is cancelled. One of the runs is a command, and one has finished. A line shows the others."""
    (waiting.path / "conftest.py").write_text(
        "from pytest_smoke.collect import progress\nprogress.LINE_SECONDS = 0.5\n"
    )
    waits(waiting, "a", "step")
    waiting.recipe("command", base=COMMAND_RECIPE)
    waiting.recipe("good", base=RECIPE.replace("max_steps: 400", "max_steps: 60"))
    recipes = [f"{name}.smoke.yaml" for name in ("good", "a", "command")]
    with session(waiting, "-n", "3", "--dist", "load", *recipes) as process:
        wait_for(waiting, "a", "command")
        assert process.stdout is not None
        lines = (line for line in islice(process.stdout, 200) if line.startswith("smoke: 1 of 3"))
        shown = next((line for line in lines if line.count("(step ") == 2), "no such line")
        process.terminate()
        printed, _ = process.communicate(timeout=120)
    assert "; running: " in shown
    assert " command::constant (step 60/400, loss 1.94" in shown
    assert re.search(r" a::constant \(step \d+/400, loss \d", shown)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "! KeyboardInterrupt: SIGTERM !" in printed
    outcomes = {outcome["id"].partition(".")[0]: outcome for outcome in waiting.verdicts()}
    reasons = {name: outcome["reason"] for name, outcome in outcomes.items()}
    assert reasons == {"a": "interrupted", "command": "interrupted", "good": ""}
    for name in ("a", "command"):
        facts = outcomes[name]["facts"]
        rows = (waiting.path / "out" / facts["trace"]).read_text().splitlines()
        assert len(rows) - 1 == facts["steps"] > 50
        assert f"{name}::constant: interrupted after step {facts['steps'] - 1}" in printed
    assert (waiting.path / "out" / outcomes["command"]["facts"]["log"]).read_text().startswith("step 0: loss 2.000")


def test_ctrl_c_twice_in_a_terminal_reaches_workers_and_controller_once(waiting: Project) -> None:
    """The second one follows at once: pytest takes a moment to describe where the first one interrupted it."""
    for name in ("a", "b"):
        waits(waiting, name, "step")
    waiting.recipe("c", base=RECIPE.replace("max_steps: 400", "max_steps: 60"))
    shell = in_terminal(waiting, "-n", "2", "--dist", "worksteal")
    wait_for(waiting, "a", "b", shell=shell)
    shell.sendintr()
    shell.sendintr()
    printed = printed_at_end(shell)
    outcomes = waiting.verdicts()
    assert [(outcome["id"][0], outcome["reason"]) for outcome in outcomes] == [
        ("a", "interrupted"),
        ("b", "interrupted"),
    ]
    for outcome in outcomes:
        steps = outcome["facts"]["steps"]
        assert len((waiting.path / "out" / outcome["facts"]["trace"]).read_text().splitlines()) - 1 == steps > 50
        assert f"{outcome['id'][0]}::constant: interrupted after step {steps - 1}" in printed
    assert "the session ended without an outcome of 1 smoke run: c.smoke.yaml::constant" in printed
    assert (waiting.path / "out" / "index.html").exists()


def test_an_interrupted_test_keeps_the_smoke_runs_that_it_finished(waiting: Project) -> None:
    waits(waiting, "run", "step")
    waiting.recipe("good", base=RECIPE.replace("max_steps: 400", "max_steps: 60"))
    waiting.pytester.makepyfile(
        test_two="""
        def test_two(smoke):
            smoke("good.smoke.yaml")
            smoke("run.smoke.yaml")
        """
    )
    with session(waiting, "test_two.py") as process:
        wait_for(waiting, "run")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    reasons = {outcome["id"]: outcome["reason"] for outcome in waiting.verdicts()}
    assert reasons == {"test_two.py::test_two#0": "", "test_two.py::test_two#1": "interrupted"}


def test_ctrl_c_when_a_test_has_passed_keeps_all_of_its_smoke_runs(project: Project) -> None:
    project.recipe()
    project.pytester.makeconftest(
        "import signal\ndef pytest_smoke_outcome(outcome):\n    signal.raise_signal(signal.SIGINT)\n"
    )
    project.pytester.makepyfile(
        test_two="""
        def test_two(smoke):
            smoke("good.smoke.yaml")
            smoke("good.smoke.yaml")
        """
    )
    result = project.run("--smoke-preflight", "--smoke-report", "out", "test_two.py")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert [outcome["id"] for outcome in project.verdicts()] == ["test_two.py::test_two#0", "test_two.py::test_two#1"]


def test_a_signal_while_the_reports_are_written_prevents_none_of_them(project: Project) -> None:
    project.recipe()
    project.pytester.makeconftest(
        """
        import signal
        from pytest_smoke.collect import summary

        write = summary.write_reports

        def write_reports(*args):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            return write(*args)

        summary.write_reports = write_reports
        """
    )
    assert project.run("--smoke-preflight", "--smoke-report", "out").ret == pytest.ExitCode.OK
    assert (project.path / "out" / "index.html").exists()
    assert len(project.verdicts()) == 1


def test_ctrl_c_keeps_the_runs_whose_reports_the_controller_has_not_read_yet(project: Project) -> None:
    """It reads one report after another, and a plugin may take its time with each."""
    project.recipe(base=RECIPE.replace("max_steps: 400", "max_steps: 4"))
    names = ("a", "b", "c", "d")
    for name in names:
        project.extending(name, f"smoke: {{max_steps: 4, seed: {ord(name)}}}\n")
    project.pytester.makeconftest(
        """
        import pathlib, signal, time

        def pytest_smoke_outcome(config):
            if not hasattr(config, "workerinput"):
                while len(list(pathlib.Path("out/traces").glob("*.csv"))) < 3:
                    time.sleep(0.05)
                time.sleep(1)
                signal.raise_signal(signal.SIGINT)
        """
    )
    recipes = [f"{name}.smoke.yaml" for name in names]
    args = ["--smoke", "--smoke-mode", "wiring", "--smoke-report", "out", "-n", "1", "--dist", "worksteal"]
    result = project.run(*args, *recipes)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert [outcome["id"][0] for outcome in project.verdicts()] == ["a", "b", "c"]
