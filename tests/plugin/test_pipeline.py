"""`smoke.pipeline` writes a package into the report folder, and the command `package` checks it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugin.conftest import RECIPE, Project

SHIPS = RECIPE.replace("tasks:Teacher", "tasks:Exportable") + "  pipeline: true\n"


def check(folder: Path, root: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the command `package` in the project."""
    command = [sys.executable, "-m", "pytest_smoke", "package", str(folder), *args]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_the_report_folder_contains_a_package_that_the_command_checks(project: Project) -> None:
    """The package has a manifest, labels and metrics; the command finds a changed byte."""
    project.recipe(base=SHIPS)
    result = project.run("--smoke", "--smoke-report", "out")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["packaged in out/packages/good.smoke.yaml__constant-*"])
    (outcome,) = project.verdicts()
    folder = Path(outcome["facts"]["package"])
    assert [folder] == list((project.path / "out" / "packages").iterdir()), "an unfinished package is left over"
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1, "all files have the same permissions"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {*manifest["files"], "manifest.json"} == {path.name for path in folder.iterdir()}
    assert json.loads((folder / "labels.json").read_text()) == ["class 0", "class 1", "class 2", "class 3"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["model"]["val_accuracy"] == outcome["metrics"]["val_accuracy"][-1][1]
    assert metrics["int8"].keys() == metrics["model"].keys()

    sound = check(folder, project.path)
    assert sound.returncode == 0, sound.stdout + sound.stderr
    assert [line.split(":")[0] for line in sound.stdout.splitlines()] == [
        f"ok    {part}" for part in ("checksums", "model.safetensors", "model.onnx", "model.int8.onnx")
    ]
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"!")
    spoilt = check(folder, project.path, "--format", "json")
    assert spoilt.returncode == 1
    (line,) = map(json.loads, spoilt.stdout.splitlines())
    assert (line["part"], line["ok"]) == ("checksums", False)
    assert "model.onnx has" in line["text"]
    nothing = check(project.path, project.path)
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert nothing.stderr.startswith(f"package: {project.path}/manifest.json: No such file")


def test_without_a_report_folder_the_package_is_checked_and_deleted(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the pytest process, where the exporters print nothing and warn of nothing."""
    temporary = project.path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    project.recipe(base=SHIPS)
    result = project.run("--smoke", "--smoke-isolation", "none", "-s", "-W", "error", "--basetemp", "base")
    assert result.ret == pytest.ExitCode.OK, result.outlines
    assert not [path for path in temporary.iterdir() if path.name.startswith("smoke-package")]
    assert not [line for line in result.outlines + result.errlines if "onnx" in line.lower() or "W1" in line[:2]]


def test_wiring_mode_holds_a_recipe_whose_export_fails(project: Project) -> None:
    project.recipe(base=SHIPS.replace("Exportable", "BranchesOnData"))
    assert project.run("--smoke", "--smoke-mode", "wiring", "--smoke-report", "out").ret == 1
    (outcome,) = project.verdicts()
    assert outcome["verdict"] == "hold"
    assert outcome["text"].startswith("export failed: ")
    assert list((project.path / "out" / "packages").iterdir()) == []


def test_a_task_without_example_inputs_is_an_error_before_the_first_step(project: Project) -> None:
    project.recipe(base=SHIPS.replace("Exportable", "Teacher"))
    assert project.run("--smoke", "--smoke-report", "out").ret == 1
    (outcome,) = project.verdicts()
    assert (outcome["verdict"], outcome["reason"], outcome["facts"]["steps"]) == ("error", "invalid-task", 0)
    assert outcome["text"] == "smoke.pipeline needs the task's example_inputs() (before the first step)"
