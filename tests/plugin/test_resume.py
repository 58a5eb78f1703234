"""`--smoke-resume` resumes the smoke runs of a killed session and reports at which steps."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import OPTIONS
from tests.plugin.conftest import RECIPE, Project, hear_ctrl_c

SLOW = """
import os, time
import torch
import tasks

class Slow(tasks.Teacher):
    def model(self):
        layers = super().model()
        return torch.nn.Sequential(*layers[:2], torch.nn.Dropout(0.1), *layers[2:])

    def losses(self, model, batch):
        if os.path.exists("slow"):
            time.sleep(0.02)
        return {"ce": super().losses(model, batch)["ce"], "size": 0.1 * (model(batch["points"]) ** 2).mean()}
"""
COMMAND = [sys.executable, "-m", "pytest", "--smoke", *OPTIONS, "-p", "no:cacheprovider"]


@pytest.fixture
def slow(project: Project) -> Project:
    """Return a project whose recipe trains slowly while the file `slow` exists."""
    (project.path / "slow_tasks.py").write_text(SLOW)
    project.recipe(base=RECIPE.replace("tasks:Teacher", "slow_tasks:Slow"))
    return project


def end_midway(project: Project, *, after: int, by: signal.Signals = signal.SIGKILL) -> int:
    """Start a session, send `by` to pytest once a checkpoint at step `after` or later is on disk; return its step."""
    (project.path / "slow").touch()
    with subprocess.Popen(
        [*COMMAND, "--smoke-report", "out", "--smoke-resume"], cwd=project.path, preexec_fn=hear_ctrl_c
    ) as session:
        deadline, found = time.monotonic() + 120, 0
        while found < after:
            assert time.monotonic() < deadline, "no checkpoint was written"
            assert session.poll() is None, "the session ended before it could be killed"
            time.sleep(0.02)
            found = max((int(p.name.removeprefix("step-")) for p in rolling(project)), default=0)
        os.kill(session.pid, by)
    (project.path / "slow").unlink()
    time.sleep(1.0)  # the training process notices and exits
    return max(int(p.name.removeprefix("step-")) for p in rolling(project))


def rolling(project: Project) -> list[Path]:
    return list((project.path / "out" / "checkpoints").glob("*/step-*"))


def told(outcome: dict[str, Any]) -> dict[str, Any]:
    """Return `outcome` without what only a resumed run has (a column of the trace, too), and without times."""
    facts = {
        k: v
        for k, v in outcome["facts"].items()
        if "second" not in k and k not in ("resumed_at_steps", "started_at", "trace_sha256")
    }
    findings = [finding for finding in outcome["findings"] if finding["id"] != "resumed"]
    return {**outcome, "facts": facts, "findings": findings}


def trace(project: Project, folder: str) -> list[dict[str, str]]:
    (path,) = (project.path / folder / "traces").iterdir()
    with path.open() as lines:
        return list(csv.DictReader(lines))


def test_a_run_killed_interrupted_and_resumed_twice_gives_the_outcome_of_an_uninterrupted_run(slow: Project) -> None:
    """The traces are equal bit for bit; the facts, a finding and the trace name both steps."""
    cuts = [end_midway(slow, after=50), end_midway(slow, after=150, by=signal.SIGINT)]
    result = slow.run("--smoke", "--smoke-report", "out", "--smoke-resume")
    result.assert_outcomes(passed=1)
    slow.run("--smoke", "--smoke-report", "plain").assert_outcomes(passed=1)
    (outcome,), (plain,) = slow.verdicts(), slow.verdicts("plain")
    assert outcome["facts"]["resumed_at_steps"] == cuts
    (finding,) = [f for f in outcome["findings"] if f["id"] == "resumed"]
    assert finding["text"] == f"interrupted, and resumed at steps {cuts[0]} and {cuts[1]}"
    assert told(outcome) == told(plain)
    assert outcome["facts"]["seconds"] > 0.02 * cuts[1]  # both earlier sessions slept 0.02 s per step
    assert outcome["facts"]["train_seconds"] > 0.02 * cuts[1]
    rows, plain_rows = trace(slow, "out"), trace(slow, "plain")
    assert [int(row["step"]) for row in rows if row.pop("resumed") == "1"] == cuts
    assert rows == plain_rows
    assert [path.name for path in (slow.path / "out" / "checkpoints").glob("*/*")] == ["trained"]


def test_a_changed_recipe_restarts_from_step_0_with_a_warning(slow: Project) -> None:
    """With another learning rate, no step of the interrupted run counts."""
    end_midway(slow, after=20)
    base = RECIPE.replace("tasks:Teacher", "slow_tasks:Slow").replace("3.0e-3", "2.0e-3")
    slow.recipe(base=base)
    result = slow.run("--smoke", "--smoke-report", "out", "--smoke-resume")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "warning: good::constant: resumed: restarted from step 0: the checkpoint of step * "
            "was saved with other settings: learning_rate was 0.003, is 0.002"
        ]
    )
    result.stdout.no_fnmatch_line("*resumed: *{*")  # one setting, not a dump of all
    (outcome,) = slow.verdicts()
    assert outcome["facts"]["steps"] == 400
    assert "resumed_at_steps" not in outcome["facts"]


def test_changed_files_of_the_project_restart_the_run_from_step_0_with_a_warning(slow: Project) -> None:
    """A file that the task's module imports, and one that the task names as data: no step is of another version."""
    (slow.path / "data.txt").write_text("1")
    with (slow.path / "slow_tasks.py").open("a") as task:
        task.write("\n    data_files = ['data.txt']\n")
    end_midway(slow, after=20)
    for edited in ("tasks.py", "data.txt"):
        with (slow.path / edited).open("a") as file:
            file.write("\n")
    result = slow.run("--smoke", "--smoke-report", "out", "--smoke-resume")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["warning: *resumed: restarted from step 0: data.txt and tasks.py changed since * was saved"]
    )
    (outcome,) = slow.verdicts()
    assert outcome["facts"]["steps"] == 400
    assert "resumed_at_steps" not in outcome["facts"]


def test_a_journal_that_lost_steps_restarts_the_run_with_a_warning(slow: Project) -> None:
    """A folder whose name is almost that of a checkpoint is left alone."""
    end_midway(slow, after=50)
    (journal,) = (slow.path / "out" / "checkpoints").glob("*/events.jsonl")
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '"step": 7,' not in line))
    (journal.parent / "step-²").mkdir()
    result = slow.run("--smoke", "--smoke-report", "out", "--smoke-resume")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["warning: *resumed: restarted from step 0: *events.jsonl is damaged: of the * steps*"])
    (outcome,) = slow.verdicts()
    assert outcome["facts"]["steps"] == 400
    assert [int(row["step"]) for row in trace(slow, "out")] == list(range(400))


def test_resume_without_a_report_folder_is_a_usage_error(project: Project) -> None:
    result = project.run("--smoke", "--smoke-resume")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--smoke-resume needs --smoke-report DIR" in result.stderr.str()
