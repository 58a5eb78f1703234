"""Mistakes that more than one process allows: two real processes train with Accelerate, and their logs are judged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.compare.comparison import Run, compare
from pytest_smoke.compare.runs import read_runs
from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Recipe
from tests.monitor.command.test_bad_days import finding, outcome_of

pytest.importorskip("accelerate")
SCRIPT = str(Path(__file__).with_name("accelerated.py"))
TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node={world_size}")
FLAGS = (
    "--lr={learning_rate}",
    "--max-steps={max_steps}",
    "--warmup-steps={warmup_steps}",
    "--schedule={lr_schedule}",
    "--batch-size={batch_size}",
    "--clip={grad_clip_norm}",
)
FULL = {
    "batch_size": 16,
    "world_size": 2,
    "learning_rate": 0.01,
    "warmup_steps": 20,
    "max_steps": 5000,
    "grad_clip_norm": 1000.0,
}
STEPS = 100
LOGS = ("schedule-in-updates", "unprepared-scheduler", "split-batches", "global-batch", "average", "sum")


def case(*command: str) -> Case:
    data: dict[str, Any] = {"command": list(command), "full": FULL, "smoke": {"max_steps": STEPS}}
    return Case(path="a.smoke.yaml", recipe=Recipe.model_validate(data), mode="constant")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the log of two processes for each of LOGS."""
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def healthy(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Return the outcome of a recipe that starts two processes. They first train once for each of LOGS."""
    command = (*TWO, SCRIPT, *FLAGS, "--folder", str(logs), "--faults", *LOGS, "none")
    return outcome_of(case(*command), tmp_path_factory.mktemp("healthy"), timeout=240)


@pytest.fixture
def one_process(tmp_path: Path) -> Path:
    """Return the log of one process with the batch of two."""
    values = {**FULL, "batch_size": 32, "max_steps": STEPS, "lr_schedule": "constant"}
    command = [sys.executable, SCRIPT, *(flag.format(**values) for flag in FLAGS)]
    log = tmp_path / "one.log"
    log.write_bytes(subprocess.run(command, check=True, timeout=240, capture_output=True).stdout)
    return log


def judged(log: Path, root: Path) -> Outcome:
    """Return the outcome of a smoke run whose command prints a log of two processes."""
    return outcome_of(case("cat", str(log)), root)


def run_of(log: Path) -> Run:
    run = read_runs(str(log))
    assert isinstance(run, Run)
    return run


def test_two_processes_with_the_declared_schedule_and_batch_are_promoted(healthy: Outcome) -> None:
    assert (healthy.verdict, healthy.facts.steps) == ("promote", STEPS), healthy.text
    said = "the log says 'samples per step 32', as the recipe declares: 32 (16 x 1 x 2)"
    assert finding(healthy, "batch-drawn").text == said
    assert "average their gradients or add them up" in finding(healthy, "accumulation").text


@pytest.mark.usefixtures("healthy")
def test_a_warmup_that_each_of_two_processes_steps_is_too_short(logs: Path, tmp_path: Path) -> None:
    outcome = judged(logs / "schedule-in-updates.log", tmp_path)
    assert (outcome.verdict, outcome.reason) == ("invalid", "other-learning-rate"), outcome.text
    found = finding(outcome, "lr-applied")
    assert found.step == 11
    assert "has the learning rate 0.01 at step 11, the recipe schedules 0.005" in found.text
    assert "Accelerate steps a prepared scheduler 2 times per update" in found.hint


@pytest.mark.usefixtures("healthy")
def test_a_warmup_that_is_as_long_for_each_process_but_stepped_once_is_too_long(logs: Path, tmp_path: Path) -> None:
    outcome = judged(logs / "unprepared-scheduler.log", tmp_path)
    assert (outcome.verdict, outcome.reason) == ("invalid", "other-learning-rate"), outcome.text
    assert finding(outcome, "lr-applied").step == 23


@pytest.mark.usefixtures("healthy")
def test_a_batch_that_is_split_among_the_processes_is_too_small(logs: Path, tmp_path: Path) -> None:
    outcome = judged(logs / "split-batches.log", tmp_path)
    assert (outcome.verdict, outcome.reason) == ("invalid", "fewer-samples"), outcome.text
    found = finding(outcome, "batch-drawn")
    assert (
        found.text
        == "the log says 'samples per step 16', the recipe declares 32 (16 x 1 x 2) samples in an optimizer step"
    )
    assert "split among the 2 processes" in found.hint


@pytest.mark.usefixtures("healthy")
def test_a_batch_of_all_processes_on_each_of_them_is_too_large(logs: Path, tmp_path: Path) -> None:
    outcome = judged(logs / "global-batch.log", tmp_path)
    assert (outcome.verdict, outcome.reason) == ("invalid", "more-samples"), outcome.text
    assert "Each of the 2 processes draws the batch of all" in finding(outcome, "batch-drawn").hint


@pytest.mark.usefixtures("healthy")
def test_gradients_that_processes_add_up_show_against_the_log_of_one_process(logs: Path, one_process: Path) -> None:
    one, averaged, added = map(run_of, (one_process, logs / "average.log", logs / "sum.log"))
    assert compare(one, averaged).notes == ()
    (note,) = compare(one, added).notes
    assert note.startswith(
        "at step 1 both runs have the same loss, 7.397, but the gradient norm of NEW is 2x that of OLD"
    )


@pytest.mark.parametrize(
    ("column", "per_step", "verdict"),
    [
        ("consumed samples", 32, "pass"),
        ("samples_seen", 16, "fail"),
        ("total samples seen", 64, "fail"),
        ("examples seen", 32, "pass"),
    ],
)
def test_the_samples_of_a_step_follow_from_a_count_of_all_so_far(
    tmp_path: Path, column: str, per_step: int, verdict: str
) -> None:
    lines = [f"step {at}: loss {1 + 1 / at:.5f}, lr 1e-2, {column}: {per_step * at}" for at in range(1, STEPS + 1)]
    (tmp_path / "counted.log").write_text("\n".join(lines) + "\n")
    assert finding(judged(tmp_path / "counted.log", tmp_path), "batch-drawn").status == verdict
