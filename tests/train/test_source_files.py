"""Which files are compared at the end of a run."""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest

from pytest_smoke.train.source_files import source_checksums, source_files

ROOT = str(Path(__file__).parents[2])


def test_the_user_s_modules_below_the_root_are_named_with_their_checksums() -> None:
    found = source_files(ROOT).checksums
    assert found[__file__] == sha256(Path(__file__).read_bytes()).hexdigest()
    assert not [path for path in found if "site-packages" in path or "/pytest_smoke/" in path]
    assert not [path for path in found if not path.startswith(ROOT)]


def test_a_module_whose_file_is_gone_has_no_checksum_and_odd_modules_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, odd = ModuleType("gone"), ModuleType("odd")
    gone.__file__, odd.__file__ = str(tmp_path / "gone.py"), None
    monkeypatch.setitem(sys.modules, "gone", gone)
    monkeypatch.setitem(sys.modules, "odd", odd)
    monkeypatch.setitem(sys.modules, "none", None)  # type: ignore[arg-type]  # as the import system allows
    assert source_files(str(tmp_path)).checksums == {gone.__file__: ""}


def test_only_files_that_are_not_known_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first.py", tmp_path / "second.py"
    for path in (first, second):
        module = ModuleType(path.stem)
        module.__file__ = str(path)
        path.write_text("imported\n")
        monkeypatch.setitem(sys.modules, path.stem, module)
    once = source_checksums(str(tmp_path))
    assert set(once) == {str(first), str(second)}
    first.write_text("changed\n")
    assert source_checksums(str(tmp_path), known={str(first)}) == {str(second): once[str(second)]}


def test_python_itself_may_be_installed_below_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standard, own = ModuleType("standard"), ModuleType("own")
    standard.__file__, own.__file__ = str(tmp_path / "env" / "lib" / "json.py"), str(tmp_path / "own.py")
    monkeypatch.setitem(sys.modules, "standard", standard)
    monkeypatch.setitem(sys.modules, "own", own)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    assert set(source_files(str(tmp_path)).checksums) == {own.__file__}
    for prefix in (tmp_path.parent, tmp_path):  # a project below the prefix, such as /usr, or an environment itself
        monkeypatch.setattr(sys, "prefix", str(prefix))
        assert set(source_files(str(tmp_path)).checksums) == {own.__file__, standard.__file__}
