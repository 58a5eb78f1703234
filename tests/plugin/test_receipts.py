"""Receipts of real sessions: when they are written, what is in them, and when none must be left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.__main__ import main
from pytest_smoke.files import file_name, file_sha256
from tests.plugin.conftest import RECIPE, Project

SHORT = RECIPE.replace("max_steps: 400", "max_steps: 60").replace("tasks:Teacher", "mine:Mine")
TASK = """\
import tasks
from lib import early

class Mine(tasks.Teacher):
    data_files = ["data", "notes.txt"]

    def model(self):
        from lib import late
        return super().model()
"""
GOOD = "good.smoke.yaml::constant"
FAILING = "checks: {accept: [loss < 0]}\n"


@pytest.fixture
def mine(project: Project) -> Project:
    """Return a project with a task that imports modules, one of them late, and names its data."""
    for name, text in {
        "mine.py": TASK,
        "lib/__init__.py": "",
        "lib/early.py": "",
        "lib/late.py": "",
        "data/a.txt": "a",
        "notes.txt": "n",
    }.items():
        (project.path / name).parent.mkdir(exist_ok=True)
        (project.path / name).write_text(text)
    project.recipe(base=SHORT)
    return project


def receipt(project: Project, item: str = GOOD, *, refused: bool = False) -> dict[str, Any] | None:
    folder = project.path / "out" / "receipts" / ("refused" if refused else "")
    path = folder / f"{file_name(item)}.json"
    return json.loads(path.read_text()) if path.exists() else None


def files(project: Project) -> list[str]:
    folder = project.path / "out" / "receipts"
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def gate(project: Project, *arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    status = main(["gate", str(project.path / "good.smoke.yaml"), "--receipts", str(project.path / "out"), *arguments])
    return status, capsys.readouterr().out


def test_a_promotion_leaves_a_receipt_of_all_that_it_used(mine: Project, capsys: pytest.CaptureFixture[str]) -> None:
    mine.run("--smoke", "--smoke-report", "out", "-n", "1", "-p", "xdist")
    found = receipt(mine)
    assert found is not None
    assert (found["verdict"], found["tested"]["device"]) == ("promote", "cpu")
    assert set(found["inputs"]["files"]) == {"mine.py", "tasks.py", "lib/__init__.py", "lib/early.py", "lib/late.py"}
    assert found["inputs"]["files"]["lib/late.py"] == file_sha256(mine.path / "lib" / "late.py")
    assert set(found["inputs"]["data"]) == {"data", "notes.txt"}
    assert {"torch", "python"} <= found["versions"].keys()
    assert found["fingerprint"] == mine.verdicts()[0]["facts"]["fingerprint"]
    assert str(mine.path) not in json.dumps(found)
    status, text = gate(mine, "--max-age", "1h", "--require", "device=cpu", capsys=capsys)
    assert (status, text.partition(" was promoted ")[0]) == (0, f"ok: {GOOD}")
    (mine.path / "lib" / "late.py").write_text("x = 1\n")
    assert gate(mine, capsys=capsys) == (1, f"refused: {GOOD} changed since its smoke run: lib/late.py changed\n")


def test_a_failing_rerun_leaves_no_usable_receipt_and_a_promotion_replaces_its_record(
    mine: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    mine.run("--smoke", "--smoke-report", "out")
    assert files(mine) == [f"{file_name(GOOD)}.json"]
    mine.recipe(base=SHORT, extra=FAILING)
    mine.run("--smoke", "--smoke-report", "out")
    assert files(mine) == [f"refused/{file_name(GOOD)}.json"]
    status, text = gate(mine, capsys=capsys)
    assert (status, text.partition(":")[0]) == (1, "refused")
    assert f"the verdict on {GOOD} is hold (criterion-failed), not promote: " in text
    status, text = gate(mine, "--override", "the limit is a typo", "--by", "ada", capsys=capsys)
    assert (status, text.partition("(")[0]) == (0, f"OVERRIDE: {GOOD}: the verdict hold ")
    assert gate(mine, capsys=capsys)[0] == 1
    status, text = gate(mine, "--accept-overrides", capsys=capsys)
    assert (status, text.partition(":")[0]) == (0, "OVERRIDE ACCEPTED")
    assert "overridden by ada on 20" in text
    mine.recipe(base=SHORT)
    mine.run("--smoke", "--smoke-report", "out")
    assert files(mine) == [f"{file_name(GOOD)}.json"]
    assert gate(mine, capsys=capsys)[0] == 0


def test_a_receipt_stays_if_the_smoke_run_is_not_executed(mine: Project) -> None:
    mine.recipe(base=SHORT)
    mine.run("--smoke", "--smoke-report", "out")
    before = files(mine)
    for options in (["--smoke-preflight"], ["-k", "nothing"], ["--smoke-mode", "wiring"]):
        mine.run("--smoke", "--smoke-report", "out", *options)
        assert files(mine) == before
    mine.recipe(base=SHORT, extra="requires: {device: cuda, memory_gib: 100000}\n")
    mine.run("--smoke", "--smoke-report", "out", "--smoke-strict")
    assert files(mine) == before


def test_a_preflight_that_fails_leaves_no_receipt(mine: Project) -> None:
    mine.run("--smoke", "--smoke-report", "out")
    mine.recipe(base=SHORT.replace("smoke:\n", "smoke:\n  learning_rate: 0.1\n"))
    mine.run("--smoke-preflight", "--smoke-report", "out")
    assert files(mine) == []


def test_a_session_that_is_killed_in_training_leaves_no_older_receipt(mine: Project) -> None:
    path = mine.path / "out" / "receipts" / f"{file_name(GOOD)}.json"
    path.parent.mkdir(parents=True)
    for name in (path, path.with_name(f"{path.name}.sig"), path.with_name(f".{path.name}.1234")):
        name.write_text("{}")
    sleeps = TASK.replace("from lib import late", "open('trains', 'w').close(); import time; time.sleep(60)")
    (mine.path / "mine.py").write_text(sleeps)
    mine.pytester.makeconftest(
        "import os, threading, time\n"
        "def watch():\n"
        "    while not os.path.exists('trains'): time.sleep(0.01)\n"
        "    os._exit(9)\n"
        "def pytest_runtest_call(item): threading.Thread(target=watch, daemon=True).start()\n"
    )
    mine.run("--smoke", "--smoke-report", "out", fresh=True)
    assert (mine.path / "trains").exists()
    assert files(mine) == []


def test_a_promotion_after_a_failure_in_one_session_gets_no_receipt(mine: Project) -> None:
    mine.pytester.makeconftest(
        "from _pytest.runner import runtestprotocol\n"
        "def pytest_runtest_protocol(item, nextitem):\n"
        "    accept = item.case.recipe.checks.accept\n"
        "    accept[:] = ['loss < 0']\n"
        "    runtestprotocol(item, nextitem=nextitem)\n"
        "    accept.clear()\n"
        "    runtestprotocol(item, nextitem=nextitem)\n"
        "    return True\n"
    )
    mine.run("--smoke", "--smoke-report", "out")
    assert sorted(outcome["verdict"] for outcome in mine.verdicts()) == ["hold", "promote"]
    assert files(mine) == []


def test_signed_receipts_are_verified(mine: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, allowed = tmp_path / "key", tmp_path / "allowed"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, stdin=subprocess.DEVNULL)
    allowed.write_text(f"gpu-runner {key.with_suffix('.pub').read_text()}")
    mine.run("--smoke", "--smoke-report", "out", f"--smoke-sign-key={key}")
    signed = ("--allowed-signers", str(allowed), "--identity", "gpu-runner")
    status, text = gate(mine, *signed, "--format", "json", capsys=capsys)
    shown = json.loads(text)
    assert shown["text"].endswith("signed by gpu-runner")
    assert (status, shown["passed"], shown["signer"]) == (0, True, "gpu-runner")
    path = mine.path / "out" / "receipts" / f"{file_name(GOOD)}.json"
    other = json.loads(path.read_text()) | {"text": "better"}
    path.write_text(json.dumps(other))
    assert gate(mine, *signed, capsys=capsys)[0] == 1
    mine.run("--smoke", "--smoke-report", "out")
    text = gate(mine, *signed, capsys=capsys)[1]
    assert text == f"refused: {path} is not signed: there is no {path.name}.sig\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--smoke-sign-key", "key"), "--smoke-sign-key needs --smoke-report DIR: receipts are written there"),
        (("--smoke-sign-key", "key", "--smoke-report", "out"), "--smoke-sign-key: there is no signing key *key"),
        (
            ("--smoke-sign-key", "good.smoke.yaml", "--smoke-report", "out"),
            "--smoke-sign-key: the receipt cannot be signed with *good.smoke.yaml: *",
        ),
    ],
)
def test_a_key_that_cannot_sign_is_an_error_before_training(
    mine: Project, arguments: tuple[str, ...], message: str
) -> None:
    result = mine.run("--smoke", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(f"*{message}")


def test_a_key_that_pytest_takes_for_a_test_is_an_error(mine: Project, tmp_path: Path) -> None:
    """Its folder would be searched for the rootdir, and the ids of smoke runs with it."""
    (tmp_path / "key").touch()
    result = mine.run("--smoke", "--smoke-report", "out", "--smoke-sign-key", str(tmp_path / "key"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(f"*instead of {mine.path}: write --smoke-sign-key={tmp_path}/key")


def test_a_receipt_that_cannot_be_written_fails_the_session(mine: Project) -> None:
    (mine.path / "out").mkdir()
    (mine.path / "out" / "receipts").write_text("in the way")
    result = mine.run("--smoke", "--smoke-report", "out")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(f"*ERROR: the receipt of {GOOD} could not be written: *")


def test_the_receipt_of_a_command_has_its_scripts_and_the_modules_they_import(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    script = "import helper\nfor step in range(60): print(f'step {step} loss {2 / (1 + step / 9):.4f} lr 0.1')\n"
    (project.path / "train.py").write_text(script)
    (project.path / "helper.py").write_text("")
    command = 'command: ["{python}", train.py, --lr, "{learning_rate}", --seed, "{seed}"]\n'
    full = "full: {batch_size: 8, learning_rate: 0.1, max_steps: 5000, lr_schedule: constant}\n"
    project.recipe(base=f"{command}{full}smoke: {{max_steps: 60}}\n")
    project.run("--smoke", "--smoke-report", "out")
    found = receipt(project) or receipt(project, refused=True)
    assert found is not None
    assert set(found["inputs"]["files"]) == {"helper.py", "train.py"}
    assert found["tested"]["device"] == "unknown"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('["nothing.txt"]', "data_files names *nothing.txt: file not found"),
        ("5", "data_files returned 5: it must return the paths of files and folders"),
        ("lambda self: [b'data']", "data_files returned *data*: it must return the paths of files and folders"),
    ],
)
def test_data_files_of_another_form_are_an_error(mine: Project, value: str, message: str) -> None:
    (mine.path / "mine.py").write_text(TASK.replace('["data", "notes.txt"]', value))
    mine.run("--smoke", "--smoke-report", "out")
    outcome = mine.verdicts()[0]
    assert (outcome["verdict"], outcome["reason"]) == ("error", "invalid-task")
    assert message.partition("*")[0] in outcome["text"]


def test_importing_the_public_module_imports_nothing_else() -> None:
    code = "import sys, pytest_smoke.gate; print(*sorted(m for m in sys.modules if m.startswith('pytest_smoke')))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert shown == ["pytest_smoke", "pytest_smoke.gate"]
