"""One set of recipes in several sessions, as the tasks of a Slurm job run them, and the merged report."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from pytest_smoke.__main__ import main
from tests.plugin.conftest import RECIPE, Project

SHORT = RECIPE.replace("max_steps: 400", "max_steps: 60")
NAMES = ("a", "b", "c", "d")
TASKS = 3


def as_slurm_task(task: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", str(task))
    monkeypatch.setenv("SLURM_NTASKS", str(TASKS))


@pytest.fixture
def mine(project: Project) -> Iterator[Project]:
    """Return a project with four recipes, one of which fails."""
    for name in NAMES:
        project.recipe(name, "checks: {accept: [loss < 0]}\n" if name == "d" else "", base=SHORT)
    return project


def key(folder: Path) -> Path:
    path = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "node", "-f", path], check=True)
    (folder / "signers").write_text(f"node {path.with_name('key.pub').read_text()}")
    return path


def test_the_tasks_of_a_job_share_the_recipes_and_their_reports_merge(
    mine: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sign = f"--smoke-sign-key={key(mine.path)}"
    executed: list[str] = []
    failed = []
    for task in range(TASKS):
        as_slurm_task(task, monkeypatch)
        result = mine.run("--smoke", "--smoke-shard", "slurm", "--smoke-report", f"out/{task}", sign)
        result.stdout.fnmatch_lines([f"smoke shard: {task + 1} of {TASKS}"])
        ids = [outcome["id"] for outcome in mine.verdicts(f"out/{task}")]
        executed += ids
        failed.append("d.smoke.yaml::constant" in ids)
        assert result.ret == int(failed[-1])
    assert sorted(executed) == [f"{name}.smoke.yaml::constant" for name in NAMES]
    assert sum(failed) == 1

    monkeypatch.chdir(mine.path)
    capsys.readouterr()  # of the sessions
    assert main(["merge", "out/0", "out/1", "out/2", "-o", "merged", "--checkpoints", "--format", "json"]) == 1
    printed = capsys.readouterr()
    assert printed.err == ""
    report = json.loads(printed.out)
    assert report["verdicts"] == {"hold": 1, "promote": 3}
    assert [one["id"] for one in report["not_promoted"]] == ["d.smoke.yaml::constant"]

    outcomes = {outcome["id"]: outcome for outcome in mine.verdicts("merged")}
    assert list(outcomes) == sorted(executed)
    for task in range(TASKS):
        part = mine.path / "out" / str(task)
        assert all(outcomes[outcome["id"]] == outcome for outcome in mine.verdicts(f"out/{task}"))
        for path in part.rglob("*"):
            relative = path.relative_to(part)
            if path.is_file() and len(relative.parts) > 1:  # traces, receipts, their signatures, checkpoints
                assert (mine.path / "merged" / relative).read_bytes() == path.read_bytes()
    assert len(list((mine.path / "merged" / "receipts").glob("*.json.sig"))) == 3
    gate = ["--receipts", "merged", "--allowed-signers", "signers"]
    assert main(["gate", "a.smoke.yaml", "b.smoke.yaml", "c.smoke.yaml", *gate]) == 0
    assert main(["gate", "d.smoke.yaml", *gate]) == 1


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed; tests/plugin/test_ray.py uses it")
def test_without_ray_its_executor_is_a_usage_error_that_says_what_to_install(mine: Project) -> None:
    result = mine.run("--smoke", "--smoke-executor", "ray")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--smoke-executor ray needs Ray: pip install 'pytest-verdict-smoke?ray?'*"])


def test_an_executor_that_does_not_exist_is_a_usage_error(mine: Project) -> None:
    for text in ("slurm", "ray=", "local=x", ""):
        assert mine.run("--smoke", f"--smoke-executor={text}").ret == 4


def test_an_empty_share_passes_and_says_so(mine: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    result = mine.run("--smoke-preflight", "--smoke-shard", "1/3", "b.smoke.yaml", "-n", "1")
    result.stdout.fnmatch_lines(["this shard has no items; other shards have 1 item"])
    assert result.ret == 0
    assert mine.run("--smoke-preflight", "--smoke-shard", "1/3", "-k", "nothing").ret == 5
    assert mine.run("--smoke-preflight", "--smoke-shard", "slurm").ret == 4
    assert mine.run("--smoke-shard", "1/3").ret == 4
