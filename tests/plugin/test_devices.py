"""The devices of pytest-xdist's workers: real sessions, and pretended GPUs that commands are given."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from tests.conftest import OPTIONS
from tests.plugin.conftest import Project

CONFTEST = """
from pathlib import Path
from pytest_smoke.collect import devices

folder = Path(LOCKS)
devices.shared_folder = lambda: folder
devices.accelerators = lambda: [
    {"id": f"cuda:{at}", "kind": "cuda", "name": "pretended", "memory_gib": 80.0, "key": f"gpu-{at}"} for at in range(2)
]
devices._may_have_gpu = lambda: True
"""
TRAINER = """
import json, os, signal, sys, time
name, began = sys.argv[1], time.monotonic()
for step in range(200):
    print(f"step {step}: loss {2 - step / 200:.3f} lr 0.001", flush=True)
time.sleep(0.4)
guard = os.getppid()
worker = int(open(f"/proc/{guard}/stat").read().rpartition(")")[2].split()[1])
with open(RECORDS, "a") as file:
    seen = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    held = [name for name in os.environ if name == "PYTEST_SMOKE_HELD_SLOTS"]
    file.write(json.dumps([name, seen, began, time.monotonic(), worker, held]) + "\\n")
if name == "crash":
    os.kill(worker, signal.SIGKILL)
    time.sleep(60)
"""
RECIPE = f"""\
command: [{sys.executable}, trainer.py, NAME]
log: stdout
full: {{batch_size: 64, learning_rate: 1.0e-3, max_steps: 20000}}
smoke: {{max_steps: 200}}
requires: REQUIRES
"""
NEEDS = {
    "crash": "{gpus: 1}",
    "alone": "{device: cuda, memory_gib: 40}",
    "both": "{gpus: 2}",
    "small1": "{memory_gib: 20}",
    "small2": "{memory_gib: 20}",
    "undeclared": "{}",
    "alone2": "{gpus: 1}",
}


OTHER_SESSION = ("small2", "undeclared", "alone2")
"""Recipes of a second session, which runs at the same time."""


@pytest.fixture
def pretended(project: Project) -> Project:
    """Return a project with pretended GPUs, and a second one in its folder `other`, which has the same."""
    locks, other = project.path / "locks", project.path / "other"
    locks.mkdir()
    other.mkdir()
    (other / "pytest.ini").write_text("[pytest]\n")
    for folder in (project.path, other):
        (folder / "conftest.py").write_text(CONFTEST.replace("LOCKS", repr(str(locks))))
        (folder / "trainer.py").write_text(TRAINER.replace("RECORDS", repr(str(project.path / "records"))))
    for name, requires in NEEDS.items():
        folder = other if name in OTHER_SESSION else project.path
        text = RECIPE.replace("NAME", name).replace("REQUIRES", requires)
        (folder / f"{name}.smoke.yaml").write_text(text)
    return project


def records(project: Project) -> dict[str, tuple[list[str], float, float, int, list[str]]]:
    rows = [json.loads(line) for line in (project.path / "records").read_text().splitlines()]
    return {name: tuple(row) for name, *row in rows}


def test_two_sessions_never_share_a_gpu_that_a_run_needs_for_itself_and_a_crash_takes_none_away(
    pretended: Project,
) -> None:
    """Both have workers of their own, and other report folders. A worker of one of them is killed in its run."""
    options = ("--smoke", "--smoke-device", "auto", "-n", "2", "--smoke-report", "out")
    arguments = [sys.executable, "-m", "pytest", *OPTIONS, *options]
    paths = os.pathsep.join(filter(None, [str(pretended.path), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths}  # of the suite's plugin, which OPTIONS names
    other = pretended.path / "other"
    with subprocess.Popen(arguments, cwd=other, env=environment, stdout=subprocess.PIPE, text=True) as session:
        result = pretended.run(*options, *(f"{name}.smoke.yaml" for name in NEEDS if name not in OTHER_SESSION))
        printed, _ = session.communicate(timeout=120)
    assert session.returncode == pytest.ExitCode.OK, printed
    outcomes = {
        outcome["id"].partition(".")[0]: outcome["reason"]
        for outcome in [*pretended.verdicts(), *pretended.verdicts("other/out")]
    }
    assert outcomes == {name: "worker-crash" if name == "crash" else "" for name in NEEDS}
    (lost,) = (outcome for outcome in pretended.verdicts() if outcome["reason"] == "worker-crash")
    assert re.fullmatch(
        r"the pytest-xdist worker gw\d was killed by SIGKILL, as the kernel does when memory runs out; "
        r"its smoke run had reported (step 199|no step)",
        lost["text"],
    )
    result.stdout.fnmatch_lines(
        [f"error (worker-crash): {lost['text']}", "*rerun: pytest --smoke crash.smoke.yaml::constant"]
    )
    rows = records(pretended)
    assert rows.keys() == NEEDS.keys()
    assert sorted(rows["both"][0]) == ["0", "1"]
    for name, (seen, began, _, _, variables) in rows.items():
        assert len(seen) == (2 if name == "both" else 1)
        assert variables == []
        for other, (other_seen, other_began, other_ended, *_) in rows.items():
            if other != name and other_began <= began < other_ended and set(seen) & set(other_seen):
                assert name.startswith("small"), f"{name} and {other} shared {seen}"
                assert other.startswith("small")
    assert not list((pretended.path / "locks").glob("*.ticket"))


def test_gpus_are_cuda_devices(project: Project) -> None:
    project.recipe("a", extra="requires: {gpus: 2}\n")
    project.recipe("b", extra="requires: {gpus: 2, device: cpu}\n")
    result = project.run("--smoke", "-rs")
    result.stdout.fnmatch_lines(["*requires*device is cpu, and gpus: 2 needs cuda; remove one of them*"])
    (project.path / "b.smoke.yaml").unlink()
    project.run("--smoke", "-rs").stdout.fnmatch_lines(["SKIPPED*needs cuda, but --smoke-device is cpu*"])
    project.run("--smoke", "-rs", "--smoke-device", "auto").stdout.fnmatch_lines(
        ["SKIPPED*needs 2 cuda devices; torch sees: *"]
    )


def test_a_launch_on_cuda_needs_a_gpu_for_each_process(pretended: Project) -> None:
    """The training process gets two, and not the name of the first one. With three processes, two GPUs are too few."""
    full = "full: {batch_size: 8, learning_rate: 0.1, max_steps: 10000, world_size: 6}\nsmoke: {max_steps: 40}\n"
    for name, processes in (("two", 2), ("three", 3)):
        pretended.recipe(name, base=f"task: tasks:Teacher\n{full}launch: {{nproc_per_node: {processes}}}\n")
    given = ("two.smoke.yaml", "three.smoke.yaml")
    result = pretended.run("--smoke", "--smoke-device", "auto", "-rs", "-n", "1", "--smoke-report", "out", *given)
    result.stdout.fnmatch_lines(["SKIPPED*needs 3 cuda devices; torch sees: pretended (80 GiB), pretended (80 GiB)"])
    texts = {outcome["id"].partition(".")[0]: outcome["text"] for outcome in pretended.verdicts()}
    assert "launch.nproc_per_node is 2, but torch" in texts["two"]
    assert re.search("sees [01] cuda device", texts["two"])
