"""What the ini file of a project allows recipes to name is read as pytest reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_smoke.allowed import AllowedCode, allowed_by_files
from pytest_smoke.errors import SmokeError

INI = "smoke_allow_tasks = company.* other\nsmoke_allow_commands = false\n"
TOML = 'smoke_allow_tasks = ["company.*", "other"]\nsmoke_allow_commands = false\n'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", f"[pytest]\n{INI}"),
        (".pytest.ini", f"[pytest]\n{INI}"),
        ("tox.ini", f"[tox]\n[pytest]\n{INI}"),
        ("setup.cfg", f"[tool:pytest]\n{INI}"),
        ("pytest.toml", f"[pytest]\n{TOML}"),
        ("pyproject.toml", f"[tool.pytest]\n{TOML}"),
        ("pyproject.toml", f"[tool.pytest.ini_options]\n{TOML}"),
        (
            "pytest.ini",
            "[pytest]\nsmoke_allow_tasks =\n    company.*  # ours\n    'other'\nsmoke_allow_commands = No\n",
        ),
    ],
)
def test_every_file_that_configures_pytest_is_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "setup.cfg").write_text("[metadata]\n")
    (tmp_path / name).write_text(text)
    assert allowed_by_files(tmp_path) == AllowedCode(tasks=("company.*", "other"), commands=False)


def test_the_first_file_decides_and_none_allows_nothing_outside(tmp_path: Path) -> None:
    assert allowed_by_files(tmp_path) == AllowedCode()
    (tmp_path / "tox.ini").write_text(f"[pytest]\n{INI}")
    assert not allowed_by_files(tmp_path).commands
    (tmp_path / "pytest.ini").write_text("")
    assert allowed_by_files(tmp_path) == AllowedCode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smoke_allow_tasks = 'company", "smoke_allow_tasks must list globs of modules"),
        ("smoke_allow_commands = perhaps", "smoke_allow_commands = perhaps: must be true or false"),
    ],
)
def test_another_form_is_an_error_that_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{text}\n")
    with pytest.raises(SmokeError, match=message):
        allowed_by_files(tmp_path)


@pytest.mark.parametrize("text", ["[pytest", "\x00", "[pytest]\n\xff", "[pytest]\na\n"])
def test_a_file_that_pytest_cannot_read_allows_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "pytest.ini").write_bytes(text.encode("latin-1"))
    (tmp_path / "pyproject.toml").write_bytes(text.encode("latin-1"))
    assert allowed_by_files(tmp_path) == AllowedCode()
