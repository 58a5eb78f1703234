"""Versions of packages, and the commit of a project."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from pytest_smoke.environment import PACKAGES, git_commit, repository_folder, version_of, versions


def git(root: Path, *args: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *args], cwd=root, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with one commit and a subfolder."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "task.py").write_text("a = 1\n")
    (tmp_path / "recipes").mkdir()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


def test_the_commit_is_the_whole_hash_also_from_a_subfolder(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD").strip()
    assert git_commit(repository / "recipes") == commit
    assert len(commit) == 40


def test_a_changed_file_makes_the_commit_dirty(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD").strip()
    (repository / "task.py").write_text("a = 2\n")
    assert git_commit(repository) == f"{commit}-dirty"


def test_a_tag_does_not_replace_the_hash(repository: Path) -> None:
    git(repository, "tag", "v1")
    assert git_commit(repository) == git(repository, "rev-parse", "HEAD").strip()


def test_without_a_repository_or_without_git_there_is_no_commit(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    assert git_commit(outside) is None
    monkeypatch.setenv("PATH", str(outside))
    (repository / "no-git").mkdir()
    assert git_commit(repository / "no-git") is None


def test_the_folder_of_a_project_is_relative_to_the_root_of_its_repository(repository: Path) -> None:
    assert repository_folder(repository / "recipes") == "recipes"
    assert repository_folder(repository / "recipes" / "of lm") == "recipes/of lm"
    assert repository_folder(repository) is None


def test_versions_are_those_of_python_and_of_packages_that_can_change_a_verdict() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert set(found) - {"python"} <= set(PACKAGES)
    assert {"pytest", "torch"} <= set(found)
    assert version_of("no-such-distribution") is None
