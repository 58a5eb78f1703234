"""Smoke runs of pytest-xdist's workers and of two sessions on one real GPU, and which devices they see."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pytest

from pytest_smoke.train.device_pool import shared_folder
from pytest_smoke.train.launch import accelerators
from tests.conftest import OPTIONS
from tests.plugin.conftest import RECIPE, Project

pytestmark = pytest.mark.gpu

TASKS = """
import json, multiprocessing, os, pathlib, signal, time

import torch

import tasks


class Records(tasks.Teacher):
    '''Writes when it used the device; may wait until another run uses it, too, or kill its pytest process.'''

    def __init__(self, name, waits_for="", kills=False):
        super().__init__()
        self.name, self.waits_for, self.kills, self.began, self.calls = name, waits_for, kills, time.monotonic(), 0
        self.write("")

    def write(self, device):
        path = pathlib.Path(f"used-{self.name}")
        seen = [str(torch.cuda.get_device_properties(at).uuid) for at in range(torch.cuda.device_count())]
        tree = [self.began, time.monotonic(), os.environ.get("CUDA_VISIBLE_DEVICES"), seen, device]
        path.with_suffix(".new").write_text(json.dumps(tree))
        path.with_suffix(".new").replace(path)

    def losses(self, model, batch):
        self.calls += 1
        if self.calls % 20 == 1:
            self.write(str(batch["points"].device))
        if self.calls == 40:
            deadline = time.monotonic() + 120
            while self.waits_for and not pathlib.Path(f"used-{self.waits_for}").exists():
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.waits_for} does not train at the same time")
                time.sleep(0.01)
            if self.kills:
                os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
                while True:  # until this process is ended
                    self.write(str(batch["points"].device))
                    time.sleep(0.002)
        return super().losses(model, batch)

    def evaluate(self, model):
        self.write(str(tasks.device_of(model)))
        return super().evaluate(model)
"""


@dataclass(frozen=True)
class Use:
    """When and how one run used its device."""

    began: float
    ended: float
    visible: str | None
    uuids: list[str]
    """UUIDs of all CUDA devices that it saw."""
    device: str


def recipe(folder: Path, name: str, *, args: str = "", requires: str = "{}", steps: int = 400) -> None:
    (folder / "records.py").write_text(TASKS)
    base = RECIPE.replace("tasks:Teacher", "records:Records").replace("max_steps: 400", f"max_steps: {steps}")
    (folder / f"{name}.smoke.yaml").write_text(f"{base}args: {{name: {name}{args}}}\nrequires: {requires}\n")


def uses(folder: Path) -> dict[str, Use]:
    paths = [path for path in folder.glob("used-*") if path.suffix != ".new"]
    return {path.name.removeprefix("used-"): Use(*json.loads(path.read_text())) for path in paths}


def sharing(found: dict[str, Use]) -> set[frozenset[str]]:
    """Return the pairs of runs that used a device at the same time."""
    return {
        frozenset((one, other))
        for one, other in combinations(found, 2)
        if found[one].began < found[other].ended
        and found[other].began < found[one].ended
        and set(found[one].uuids) & set(found[other].uuids)
    }


def gpu_uuid() -> str:
    (device, *_) = (one for one in accelerators() if one["kind"] == "cuda")
    return str(device["key"]).removeprefix("gpu-")


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the first GPU alone, if there are several."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given[0])


def assert_nothing_is_held() -> None:
    assert list(shared_folder().glob("*.ticket")) == []


def test_runs_that_need_less_than_half_of_a_gpu_share_it_and_others_do_not(project: Project) -> None:
    """Two small runs wait until the other one trains, so that both must; two that declare nothing come after them."""
    recipe(project.path, "small1", args=", waits_for: small2", requires="{memory_gib: 4}", steps=420)
    recipe(project.path, "small2", args=", waits_for: small1", requires="{memory_gib: 4}", steps=410)
    recipe(project.path, "whole1")
    recipe(project.path, "whole2", requires="{gpus: 1}")
    result = project.run("--smoke", "--smoke-device", "cuda", "-n", "2", "--smoke-report", "out")
    result.assert_outcomes(passed=4)
    assert {outcome["facts"]["device"] for outcome in project.verdicts()} == {"cuda:0"}
    found = uses(project.path)
    assert {use.device for use in found.values()} == {"cuda:0"}
    assert sharing(found) == {frozenset(("small1", "small2"))}
    assert_nothing_is_held()


def test_the_gpu_of_a_killed_worker_is_free_when_its_training_process_has_ended(project: Project) -> None:
    recipe(project.path, "killed", args=", kills: true", steps=420)
    for name in ("other1", "other2"):
        recipe(project.path, name)
    project.run("--smoke", "--smoke-device", "cuda", "-n", "2", "--smoke-report", "out")
    outcomes = {outcome["id"].partition(".")[0]: outcome for outcome in project.verdicts()}
    assert {name: outcome["verdict"] for name, outcome in outcomes.items()} == {
        "killed": "error",
        "other1": "promote",
        "other2": "promote",
    }
    assert outcomes["killed"]["reason"] == "worker-crash"
    assert " was killed by SIGKILL" in outcomes["killed"]["text"]
    found = uses(project.path)
    assert sharing(found) == set()
    assert len({uuid for use in found.values() for uuid in use.uuids}) == 1
    assert_nothing_is_held()


@pytest.mark.parametrize("name", ["index", "uuid", "beginning of the uuid", "index and what is not there"])
def test_a_run_gets_one_of_the_devices_that_the_session_sees(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    uuid, first = gpu_uuid(), os.environ["CUDA_VISIBLE_DEVICES"]
    given = {
        "index": first,
        "uuid": f"GPU-{uuid}",
        "beginning of the uuid": f"GPU-{uuid[:13]}",
        "index and what is not there": f"{first},-1",
    }[name]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    recipe(project.path, "run")
    project.run("--smoke", "--smoke-device", "auto", "-n", "1", "--smoke-report", "out").assert_outcomes(passed=1)
    use = uses(project.path)["run"]
    assert (use.device, use.uuids, use.visible) == ("cuda:0", [uuid], given.partition(",")[0])


def test_without_a_visible_gpu_runs_train_on_the_cpu_and_those_that_need_one_are_skipped(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    recipe(project.path, "any")
    recipe(project.path, "cuda", requires="{device: cuda}")
    result = project.run("--smoke", "--smoke-device", "auto", "-n", "2", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*needs 1 cuda device; torch sees: none"])
    use = uses(project.path)["any"]
    assert (use.device, use.visible) == ("cpu", "")


def test_an_instance_of_a_gpu_that_is_divided_is_named_as_the_session_names_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = shutil.which("nvidia-smi")
    listed = subprocess.check_output([program, "-L"], text=True) if program else ""
    instances = re.findall(r"UUID: (MIG-[\w/-]+)", listed)
    if not instances:
        pytest.skip("no GPU of this machine is divided into MIG instances")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", instances[0])
    for name in ("run1", "run2"):
        recipe(project.path, name)
    project.run("--smoke", "--smoke-device", "cuda", "-n", "2").assert_outcomes(passed=2)
    found = uses(project.path)
    assert {use.visible for use in found.values()} == {instances[0]}
    assert sharing(found) == set()


def test_two_sessions_side_by_side_do_not_share_the_gpu(project: Project) -> None:
    paths = [str(project.path), os.environ.get("PYTHONPATH", "")]  # of the plugin that the fixture provides
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    sessions = []
    for name in ("first", "second"):
        folder = project.path / name
        folder.mkdir()
        (folder / "tasks.py").write_text((project.path / "tasks.py").read_text())
        recipe(folder, f"{name}1")
        recipe(folder, f"{name}2")
        (folder / "pytest.ini").write_text("[pytest]\n")
        arguments = [*OPTIONS, "--smoke", "--smoke-device", "cuda", "-n", "2", "--smoke-report", "out"]
        sessions.append(subprocess.Popen([sys.executable, "-m", "pytest", *arguments], cwd=folder, env=environment))
    assert [session.wait(timeout=240) for session in sessions] == [pytest.ExitCode.OK] * 2
    found = uses(project.path / "first") | uses(project.path / "second")
    assert len(found) == 4
    assert sharing(found) == set()
    assert_nothing_is_held()


def test_a_launch_of_two_processes_is_skipped_on_one_gpu(project: Project) -> None:
    project.recipe(extra="launch: {nproc_per_node: 2}\n", base=RECIPE.replace("smoke:", "  world_size: 2\nsmoke:"))
    result = project.run("--smoke", "--smoke-device", "auto", "-n", "1", "-rs")
    result.stdout.fnmatch_lines(["SKIPPED*needs 2 cuda devices; torch sees: *"])
