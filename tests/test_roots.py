"""The rootdir rule, against pytest itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_smoke.roots import ROOT_FILES, root_above, task_root


def folders(tmp_path: Path) -> Path:
    """`a/b/c` below `tmp_path`."""
    deepest = tmp_path / "a" / "b" / "c"
    deepest.mkdir(parents=True)
    return deepest


@pytest.mark.parametrize("name", ROOT_FILES)
def test_the_nearest_folder_with_a_configuration_file_is_the_root(tmp_path: Path, name: str) -> None:
    deepest = folders(tmp_path)
    (tmp_path / name).touch()
    (tmp_path / "a" / name).touch()
    assert root_above(deepest) == tmp_path / "a"
    assert root_above(tmp_path) == tmp_path


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
    (tmp_path / "setup.cfg").touch()
    assert root_above(deepest) == tmp_path


def test_without_a_root_tasks_are_imported_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deepest = folders(tmp_path)
    if root_above(tmp_path) is not None:
        pytest.skip("a folder above the temporary one is a root")
    monkeypatch.chdir(tmp_path)
    assert root_above(deepest) is None
    assert task_root(deepest / "x.smoke.yaml") == tmp_path


@pytest.mark.parametrize("name", ["pytest.ini", "pyproject.toml"])
def test_pytest_finds_the_same_root(pytester: pytest.Pytester, name: str) -> None:
    content = {"pytest.ini": "[pytest]\n", "pyproject.toml": "[tool.pytest.ini_options]\n"}[name]
    (pytester.path / name).write_text(content)
    below = pytester.mkdir("below")
    (below / "test_x.py").write_text("def test_x(request): assert request.config.rootpath == request.path.parents[1]\n")
    pytester.runpytest_inprocess(str(below / "test_x.py")).assert_outcomes(passed=1)
    assert root_above(below) == pytester.path
