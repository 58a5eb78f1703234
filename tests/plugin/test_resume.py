"""`--smoke-resume`: a session that was killed goes on, and says where it was cut."""

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

from tests.plugin.conftest import RECIPE, Project

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
COMMAND = [sys.executable, "-m", "pytest", "--smoke", "--smoke-device", "cpu", "-p", "no:cacheprovider"]


@pytest.fixture
def slow(project: Project) -> Project:
    """A project with a recipe that takes its time as long as the file `slow` is there."""
    (project.path / "slow_tasks.py").write_text(SLOW)
    project.recipe(base=RECIPE.replace("tasks:Teacher", "slow_tasks:Slow"))
    return project


def kill_midway(project: Project, *, after: int) -> int:
    """Start a session, SIGKILL pytest once a checkpoint after a step is on disk; that step."""
    (project.path / "slow").touch()
    with subprocess.Popen([*COMMAND, "--smoke-report", "out", "--smoke-resume"], cwd=project.path) as session:
        deadline, found = time.monotonic() + 120, 0
        while found < after:
            assert time.monotonic() < deadline, "no checkpoint was written"
            assert session.poll() is None, "the session ended before it could be killed"
            time.sleep(0.02)
            found = max((int(p.name.removeprefix("step-")) for p in rolling(project)), default=0)
        os.kill(session.pid, signal.SIGKILL)
    (project.path / "slow").unlink()
    time.sleep(1.0)  # the child hears of it, and dies
    return max(int(p.name.removeprefix("step-")) for p in rolling(project))


def rolling(project: Project) -> list[Path]:
    return list((project.path / "out" / "checkpoints").glob("*/step-*"))


def told(outcome: dict[str, Any]) -> dict[str, Any]:
    """What an uninterrupted run says too."""
    facts = {k: v for k, v in outcome["facts"].items() if "second" not in k and k != "resumed_at_steps"}
    findings = [finding for finding in outcome["findings"] if finding["id"] != "resumed"]
    return {**outcome, "facts": facts, "findings": findings}


def trace(project: Project, folder: str) -> list[dict[str, str]]:
    (path,) = (project.path / folder / "traces").iterdir()
    with path.open() as lines:
        return list(csv.DictReader(lines))


def test_a_session_killed_twice_ends_as_one_that_never_was(slow: Project) -> None:
    """Same outcome, same trace, bit for bit; both cuts are in the facts, in a finding and in the trace."""
    cuts = [kill_midway(slow, after=50), kill_midway(slow, after=150)]
    result = slow.run("--smoke", "--smoke-report", "out", "--smoke-resume")
    result.assert_outcomes(passed=1)
    slow.run("--smoke", "--smoke-report", "plain").assert_outcomes(passed=1)
    (outcome,), (plain,) = slow.verdicts(), slow.verdicts("plain")
    assert outcome["facts"]["resumed_at_steps"] == cuts
    (finding,) = [f for f in outcome["findings"] if f["id"] == "resumed"]
    assert finding["text"] == f"cut off and resumed at steps {cuts[0]}, {cuts[1]}"
    assert told(outcome) == told(plain)
    assert outcome["facts"]["seconds"] > 0.02 * cuts[1]  # what both killed sessions slept, a step each
    assert outcome["facts"]["train_seconds"] > 0.02 * cuts[1]
    rows, plain_rows = trace(slow, "out"), trace(slow, "plain")
    assert [int(row["step"]) for row in rows if row.pop("resumed") == "1"] == cuts
    assert rows == plain_rows
    assert [path.name for path in (slow.path / "out" / "checkpoints").glob("*/*")] == ["trained"]


def test_a_recipe_that_was_changed_begins_anew_and_says_so(slow: Project) -> None:
    """Another learning rate is another run: nothing of the old one is judged."""
    kill_midway(slow, after=20)
    base = RECIPE.replace("tasks:Teacher", "slow_tasks:Slow").replace("3.0e-3", "2.0e-3")
    slow.recipe(base=base)
    result = slow.run("--smoke", "--smoke-report", "out", "--smoke-resume")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*resumed: begun anew, at step 0: *learning_rate was 0.003, is 0.002*"])
    result.stdout.no_fnmatch_line("*resumed: *{*")  # settings, not a dump of them
    (outcome,) = slow.verdicts()
    assert outcome["facts"]["steps"] == 400
    assert "resumed_at_steps" not in outcome["facts"]


def test_without_a_report_folder_it_is_a_usage_error(project: Project) -> None:
    """There is nowhere to look."""
    result = project.run("--smoke", "--smoke-resume")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--smoke-resume needs --smoke-report DIR" in result.stderr.str()
