"""Smoke runs on a real Ray cluster of two nodes, one of which is killed. They need the extra `ray`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.__main__ import main
from tests.plugin.conftest import RECIPE, TASKS

ray = pytest.importorskip("ray", reason="Ray is not installed; .ci/newest runs these tests")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own

SLOW = """\
import os, time
from pathlib import Path
import tasks

class Slow(tasks.Teacher):
    def batches(self, batch_size, **kwargs):
        Path(os.environ["STARTED"], str(os.getpid())).touch()
        for batch in super().batches(batch_size, **kwargs):
            time.sleep(0.1)
            yield batch
"""
SHORT = RECIPE.replace("max_steps: 400", "max_steps: 60").replace("tasks:Teacher", "slow:Slow")
VARYING = ("started_at", "seconds", "train_seconds", "samples_per_second", "estimated_full_seconds")
"""Facts that two equal runs differ in."""
WAIT_SECONDS = 120.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Start two nodes with one CPU each on this machine."""
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield started
    started.shutdown()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project of three recipes, one of which is not promoted."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "tasks.py").write_text(TASKS.read_text())
    (tmp_path / "slow.py").write_text(SLOW.replace('os.environ["STARTED"]', repr(str(tmp_path / "started"))))
    (tmp_path / "started").mkdir()
    for name in ("a", "b", "c"):
        extra = "checks: {accept: [loss < 0]}\n" if name == "c" else ""
        (tmp_path / f"{name}.smoke.yaml").write_text(SHORT + extra)
    return tmp_path


def start(project: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest", "--smoke", "--smoke-device", "cpu", *options]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=project, start_new_session=True, **pipes)


def wait_for_runs(project: Path, amount: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while len(list((project / "started").iterdir())) < amount:
        assert time.monotonic() < deadline, "the runs did not start"
        time.sleep(0.1)


def outcomes(folder: Path) -> dict[str, dict[str, Any]]:
    tree = json.loads((folder / "verdicts.json").read_text())
    assert [one["id"] for one in tree["outcomes"]] == sorted(one["id"] for one in tree["outcomes"])
    return {one["id"]: one for one in tree["outcomes"]}


def comparable(outcome: dict[str, Any]) -> dict[str, Any]:
    """Return what must be equal on both machines."""
    facts = {key: value for key, value in outcome["facts"].items() if key not in VARYING}
    findings = [
        {key: value for key, value in one.items() if key != "data" or "seconds" not in json.dumps(value)}
        for one in outcome["findings"]
    ]
    return {**outcome, "facts": facts, "findings": findings}


def files(folder: Path) -> dict[str, bytes]:
    kept = ("traces/", "checkpoints/", "predictions/")
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name.startswith(kept)}


def test_outcomes_are_those_of_this_machine_also_if_a_node_is_lost(
    cluster: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = start(project, "--smoke-report", "local")
    assert "1 failed, 2 passed" in local.communicate()[0]
    for path in (project / "started").iterdir():
        path.unlink()

    second = cluster.add_node(num_cpus=1)
    session = start(project, "--smoke-executor", f"ray={cluster.address}", "--smoke-report", "out")
    wait_for_runs(project, 2)
    cluster.remove_node(second, allow_graceful=False)
    printed, _ = session.communicate(timeout=WAIT_SECONDS)
    assert "1 failed, 2 passed" in printed
    assert "3 smoke runs on Ray: 2 nodes, 2 CPUs" in printed

    expected, found = outcomes(project / "local"), outcomes(project / "out")
    again = [one for one in found.values() if "was started again" in json.dumps(one["findings"])]
    assert len(again) == 1
    assert found.keys() == expected.keys()
    for item_id, outcome in found.items():
        ours, theirs = comparable(expected[item_id]), comparable(outcome)
        if outcome is again[0]:
            (run,) = [one for one in theirs["findings"] if one["id"] == "run"]
            assert (run["status"], run["reason"]) == ("warn", "restarted")
            for tree in (ours, theirs):
                tree["findings"] = [one for one in tree["findings"] if one["id"] != "run"]
                for key in ("reason", "text", "decided_by"):
                    tree.pop(key)
        assert theirs == ours
    here, there = files(project / "local"), files(project / "out")
    assert here.keys() == there.keys()
    for name in here:
        if name.endswith((".csv", ".safetensors")):  # the optimizer's file is a zip file with times
            assert there[name] == here[name]
    monkeypatch.chdir(project)
    assert main(["gate", "a.smoke.yaml", "b.smoke.yaml", "--receipts", "out"]) == 0
    assert main(["gate", "c.smoke.yaml", "--receipts", "out"]) == 1


def test_ctrl_c_interrupts_what_has_started_and_leaves_no_process(cluster: Any, project: Path) -> None:
    slow = (project / "slow.py").read_text().replace("0.1", "1.0")
    (project / "slow.py").write_text(slow)
    session = start(project, "--smoke-executor", f"ray={cluster.address}", "--smoke-report", "out")
    wait_for_runs(project, 1)
    (training,) = [int(path.name) for path in (project / "started").iterdir()]
    time.sleep(2)
    session.send_signal(signal.SIGINT)
    printed, _ = session.communicate(timeout=WAIT_SECONDS)
    assert session.returncode == 2, printed
    found = outcomes(project / "out")
    assert [one["reason"] for one in found.values()] == ["interrupted"]
    assert not Path(f"/proc/{training}").exists()


def test_a_rootdir_that_is_too_large_is_a_usage_error_that_names_its_largest_part(cluster: Any, project: Path) -> None:
    (project / "data").mkdir()
    with open("/dev/urandom", "rb") as random:
        (project / "data" / "big.bin").write_bytes(random.read(520 * 2**20))
    session = start(project, "--smoke-executor", f"ray={cluster.address}")
    printed, _ = session.communicate(timeout=WAIT_SECONDS)
    assert session.returncode == 4
    assert "Its largest parts are data (545.3 MB)" in printed
    assert "smoke_ray_excludes" in printed


def test_x_ends_the_session_at_the_first_failure(cluster: Any, project: Path) -> None:
    session = start(project, "--smoke-executor", f"ray={cluster.address}", "-x", "c.smoke.yaml")
    printed, _ = session.communicate(timeout=WAIT_SECONDS)
    assert session.returncode in (1, 2), printed
    assert "stopping after 1 failures" in printed


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--smoke-isolation", "none"], "remove --smoke-isolation none"),
        (["--smoke-resume", "--smoke-report", "out"], "remove --smoke-resume"),
        (["-n", "2"], "remove -n"),
        (["--smoke-bisect", "a.smoke.yaml", "b.smoke.yaml"], "remove --smoke-bisect"),
    ],
)
def test_options_that_need_this_machine_are_usage_errors(project: Path, options: list[str], said: str) -> None:
    session = start(project, "--smoke-executor", "ray", *options)
    printed, _ = session.communicate(timeout=WAIT_SECONDS)
    assert session.returncode == 4
    assert said in printed


def test_a_cluster_that_does_not_answer_is_a_usage_error(project: Path) -> None:
    session = start(project, "--smoke-executor", "ray=127.0.0.1:1")
    printed, _ = session.communicate(timeout=WAIT_SECONDS)
    assert session.returncode == 4
    assert "--smoke-executor ray: cannot connect to 127.0.0.1:1" in printed
    assert "Traceback" not in printed
