"""A recipe names the code of the project's rootdir, and no other that the project does not allow."""

from __future__ import annotations

import pytest

from pytest_smoke.__main__ import main
from tests.plugin.conftest import Project

RECIPE = """\
{key}: {named}
args: {args}
full: {{batch_size: 64, learning_rate: 1.0e-3, warmup_steps: 0, max_steps: 1000}}
smoke: {{max_steps: 20}}
"""
TOUCH = {
    "os:system": "{command: touch called}",
    "os:popen": "{cmd: touch called}",
    "subprocess:Popen": "{args: [touch, called]}",
    "builtins:eval": "{source: \"open('called', 'w')\"}",
    "importlib:import_module": "{name: antigravity}",
    "yaml:unsafe_load": "{stream: '!!python/object/apply:os.system [touch called]'}",
    "torch:load": "{f: evil.pt, weights_only: false}",
    "pytest_smoke.train.pickled:load": "{path: evil.pickle}",
}
EVIL = b"cposix\nsystem\n(S'touch called'\ntR."
"""A pickle that calls `os.system`."""
IMPORTED = """
from subprocess import Popen
from torch import load
from yaml import unsafe_load
"""


def test_code_outside_the_rootdir_is_refused_before_anything_is_imported(project: Project) -> None:
    (project.path / "evil.pickle").write_bytes(EVIL)
    for number, (named, args) in enumerate(TOUCH.items()):
        for key in ("task", "hf", "lightning"):
            text = RECIPE.format(key=key, named=named, args=args)
            (project.path / f"{key}{number}.smoke.yaml").write_text(text)
    result = project.run("--smoke", "-q")
    result.assert_outcomes(errors=3 * len(TOUCH))
    output = result.stdout.str()
    assert output.count("is part of Python's standard library") == 3 * 5
    assert output.count("is outside pytest's rootdir") == 3 * 2
    assert output.count("may name it if the project's ini file allows it: smoke_allow_tasks = torch") == 3
    assert output.count("is part of pytest_smoke, which has no task") == 3
    assert not (project.path / "called").exists()


def test_what_a_module_of_the_rootdir_imported_is_not_called(project: Project) -> None:
    (project.path / "evil.pickle").write_bytes(EVIL)
    with (project.path / "tasks.py").open("a") as file:
        file.write(IMPORTED)
    for name, named in {"Popen": "subprocess:Popen", "load": "torch:load", "unsafe_load": "yaml:unsafe_load"}.items():
        text = RECIPE.format(key="task", named=f"tasks:{name}", args=TOUCH[named])
        (project.path / f"{name}.smoke.yaml").write_text(text)
    project.run("--smoke", "--smoke-report", "out")
    assert [item["reason"] for item in project.verdicts()] == ["invalid-task"] * 3
    texts = [str(item) for item in project.verdicts()]
    assert "tasks:Popen is Popen of Python" in texts[0]
    assert "tasks:load is load of torch.serialization, which is outside pytest" in texts[1]
    assert "tasks:unsafe_load is unsafe_load of yaml, which is outside pytest" in texts[2]
    assert not (project.path / "called").exists()


def test_the_ini_file_allows_packages_outside_and_can_forbid_commands(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pytest and the commands read the same keys."""
    outside = project.path.parent / f"{project.path.name}-shared"
    outside.mkdir()
    (project.path / "tasks.py").rename(outside / "company_tasks.py")
    monkeypatch.syspath_prepend(outside)
    monkeypatch.setenv("PYTHONPATH", str(outside))
    monkeypatch.chdir(project.path)
    recipe = project.recipe("shared", base=RECIPE.format(key="task", named="company_tasks:Teacher", args="{}"))
    command = project.recipe("shell", base=RECIPE.format(key="command", named="[sh, -c, touch called]", args="{}"))
    project.run("--smoke", str(recipe)).assert_outcomes(errors=1)
    assert main(["probe", str(recipe)]) == 2
    assert "smoke_allow_tasks = company_tasks" in capsys.readouterr().err
    (project.path / "pytest.ini").write_text("[pytest]\nsmoke_allow_tasks = company_*\nsmoke_allow_commands = false\n")
    result = project.run("--smoke", "--smoke-preflight", "--continue-on-collection-errors")
    result.stdout.fnmatch_lines(["preflight ok  shared::constant*"])
    assert "command starts a program, and the ini key smoke_allow_commands = false allows none" in result.stdout.str()
    assert not (project.path / "called").exists()
    assert main(["preflight", str(command), str(command)]) == 2
    assert "smoke_allow_commands = false" in capsys.readouterr().err
    (project.path / "pytest.ini").write_text("[pytest]\nsmoke_allow_commands = perhaps\n")
    assert main(["probe", str(recipe)]) == 2
    assert "smoke_allow_commands = perhaps: must be true or false" in capsys.readouterr().err
