"""The rootdir rule, against pytest itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from _pytest.config.findpaths import determine_setup, locate_config

from pytest_smoke.roots import root_above, task_root


def folders(tmp_path: Path) -> Path:
    """`a/b/c` below `tmp_path`."""
    deepest = tmp_path / "a" / "b" / "c"
    deepest.mkdir(parents=True)
    return deepest


CONTENTS = {
    "pyproject.toml": ["", "[project]\nname = 'a'\n", "[tool.pytest]\n", "[tool.pytest]\nxfail_strict = true\n"],
    "tox.ini": ["", "[tox]\n", "[pytest]\n", "[tox]\n\n[pytest] # ours\n", "# [pytest]\n"],
    "setup.cfg": ["", "[metadata]\n", "[tool:pytest]\naddopts = -q\n"],
    **{name: ["", "[pytest]\n"] for name in ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini")},
}
CONTENTS["pyproject.toml"].append("[tool.pytest.ini_options]\naddopts = '-q'\n")
FILES = [(name, text) for name, texts in CONTENTS.items() for text in texts]


@pytest.mark.parametrize("near", FILES)
@pytest.mark.parametrize("far", FILES[::2])
def test_pytest_takes_the_same_folder(tmp_path: Path, near: tuple[str, str], far: tuple[str, str]) -> None:
    deepest = folders(tmp_path)
    (tmp_path / "a" / near[0]).write_text(near[1])
    (tmp_path / far[0]).write_text(far[1])
    root, *_ = locate_config(deepest, [deepest])
    if root is None:
        assert root_above(deepest) in (None, root_above(tmp_path.parent))
    else:
        assert root_above(deepest) == root


def test_a_file_that_cannot_be_parsed_does_not_count(tmp_path: Path) -> None:
    deepest = folders(tmp_path)
    (tmp_path / "pytest.ini").touch()
    for name, content in {"pyproject.toml": b"[", "tox.ini": b"\xff", "setup.cfg": b"\xff[tool:pytest]"}.items():
        (tmp_path / "a" / name).write_bytes(content)
    assert root_above(deepest) == tmp_path


def test_setup_py_counts_only_without_a_configuration_file(tmp_path: Path) -> None:
    deepest = folders(tmp_path)
    (deepest.parent / "setup.py").touch()
    assert root_above(deepest) == deepest.parent
    (tmp_path / "pyproject.toml").touch()
    assert root_above(deepest) == tmp_path


def test_a_file_is_searched_from_its_folder(tmp_path: Path) -> None:
    deepest = folders(tmp_path)
    (tmp_path / "a" / "pytest.ini").touch()
    recipe = deepest / "x.smoke.yaml"
    recipe.touch()
    assert root_above(recipe) == tmp_path / "a"
    assert task_root(recipe) == tmp_path / "a"


def test_a_folder_with_the_name_of_a_configuration_file_does_not_count(tmp_path: Path) -> None:
    deepest = folders(tmp_path)
    (deepest / "pytest.ini").mkdir()
    (tmp_path / "pytest.toml").touch()
    assert root_above(deepest) == tmp_path


@pytest.mark.parametrize("recipe", ["x.smoke.yaml", "a/x.smoke.yaml", "a/b/c/x.smoke.yaml", "d/x.smoke.yaml"])
@pytest.mark.parametrize("here", ["", "a", "a/b/c", "d"])
def test_without_a_root_tasks_are_imported_from_the_folder_that_pytest_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, here: str
) -> None:
    folders(tmp_path)
    (tmp_path / "d").mkdir()
    (tmp_path / recipe).touch()
    if root_above(tmp_path) is not None:
        pytest.skip("a folder above the temporary one is a root")
    monkeypatch.chdir(tmp_path / here)
    root, *_ = determine_setup(
        inifile=None,
        override_ini=None,
        args=[str(tmp_path / recipe)],
        rootdir_cmd_arg=None,
        invocation_dir=Path.cwd(),
    )
    assert task_root(Path(os.path.relpath(tmp_path / recipe))) == root


def test_the_root_of_the_file_system_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if root_above(tmp_path) is not None:
        pytest.skip("a folder above the temporary one is a root")
    monkeypatch.chdir("/usr")
    assert task_root(tmp_path / "x.smoke.yaml") == tmp_path


@pytest.mark.parametrize("name", ["pytest.ini", "pyproject.toml"])
def test_pytest_finds_the_same_root(pytester: pytest.Pytester, name: str) -> None:
    content = {"pytest.ini": "[pytest]\n", "pyproject.toml": "[tool.pytest.ini_options]\n"}[name]
    (pytester.path / name).write_text(content)
    below = pytester.mkdir("below")
    (below / "test_x.py").write_text("def test_x(request): assert request.config.rootpath == request.path.parents[1]\n")
    pytester.runpytest_inprocess(str(below / "test_x.py")).assert_outcomes(passed=1)
    assert root_above(below) == pytester.path
