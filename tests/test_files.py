"""Atomic writes, file names, sums, and strict JSON."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.files import (
    file_in,
    file_name,
    file_sha256,
    invalid_json,
    is_file_name,
    is_plain_name,
    json_value,
    read_failure,
    read_json,
    strict_json,
    sync_to_disk,
    write_atomic,
)

FLOATS = st.floats(allow_nan=True, allow_infinity=True)
WRITTEN = ("NaN", "Infinity", "-Infinity")
"""Texts that `json_value` writes for what is not finite."""
TEXTS = st.text(max_size=8).filter(lambda text: text not in WRITTEN)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    """A lone surrogate cannot be encoded, so the write fails halfway."""
    path = tmp_path / "deep" / "verdicts.json"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "x" * 10_000 + "\ud800")
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["verdicts.json"]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    """Not those of a temporary file, which only its owner may read."""
    (tmp_path / "plain").touch()
    write_atomic(tmp_path / "report", "x")
    assert (tmp_path / "report").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_fails_a_write_is_not_hidden_by_a_folder_that_is_gone(tmp_path: Path) -> None:
    def removes_the_folder() -> Iterator[str]:
        yield "x"
        shutil.rmtree(tmp_path / "out")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "out" / "verdicts.json", removes_the_folder())


def test_a_write_does_not_change_the_umask_which_other_threads_use(tmp_path: Path) -> None:
    """To read the umask is to set it: a file that another thread makes meanwhile could be written by everyone."""
    calls: list[str] = []
    sys.setprofile(lambda frame, event, called: calls.append(called.__name__) if event == "c_call" else None)
    try:
        write_atomic(tmp_path / "report", "x")
    finally:
        sys.setprofile(None)
    assert "replace" in calls
    assert "umask" not in calls


def test_line_ends_are_written_as_they_are(tmp_path: Path) -> None:
    write_atomic(tmp_path / "report", "a\nb\r\nc\n")
    assert (tmp_path / "report").read_bytes() == b"a\nb\r\nc\n"


def test_files_and_folders_can_be_synced(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sync_to_disk(tmp_path / "file")
    sync_to_disk(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_to_disk(tmp_path / "missing")


@given(st.text(max_size=300))
def test_a_file_name_is_safe_and_short(node_id: str) -> None:
    name = file_name(node_id)
    assert name == Path(name).name
    assert name.isascii()
    assert len(name) <= 129
    assert not set(name) & set('/\\:*?"<>|\0')


@given(st.text(max_size=300), st.text(max_size=300))
def test_the_file_name_of_a_node_id_is_recognized(path: str, name: str) -> None:
    assert is_file_name(file_name(f"{path}::{name}"))


@pytest.mark.parametrize("name", ["train-20261126", "run-deadbeef", "a__b", "a__b-1234567", "a__b-1234567g", "", "-"])
def test_a_name_of_the_user_is_not_taken_for_a_file_name(name: str) -> None:
    assert not is_file_name(name)


@given(st.lists(st.text(max_size=40), unique=True, max_size=20))
def test_different_ids_have_different_file_names(ids: list[str]) -> None:
    assert len({file_name(id).lower() for id in ids}) == len(ids)


def test_a_file_name_shows_the_end_of_the_id() -> None:
    assert file_name("a/b.smoke.yaml::constant[x]").startswith("a_b.smoke.yaml__constant_x_-")


@pytest.mark.parametrize("content", [b"", b"abc", bytes(range(256)) * 5_000])
def test_the_sum_is_that_of_the_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert file_sha256(path) == sha256(content).hexdigest()


def read_back(value: Any) -> Any:
    """The inverse of `json_value` for a tree without the texts that it writes."""
    if value in WRITTEN:
        return float(value)
    if isinstance(value, dict):
        return {key: read_back(part) for key, part in value.items()}
    return [read_back(part) for part in value] if isinstance(value, list) else value


@given(TREES)
def test_every_tree_is_strict_json_and_can_be_read_back(tree: Any) -> None:
    """Compared by repr, because NaN is not equal to itself."""

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    assert repr(read_back(json.loads(strict_json(tree), parse_constant=refuse))) == repr(tree)
    assert strict_json(json_value(tree)) == strict_json(tree)


def test_non_finite_numbers_are_texts_that_float_reads() -> None:
    values = [math.nan, math.inf, -math.inf, 1.5]
    assert json_value(values) == ["NaN", "Infinity", "-Infinity", 1.5]
    assert repr([float(value) for value in json_value(values)]) == repr(values)


def test_keys_become_texts_and_tuples_lists() -> None:
    assert strict_json({1: (2, 3), "a": {"b": ()}}) == '{"1": [2, 3], "a": {"b": []}}'


def test_a_file_that_cannot_be_read_has_its_cause() -> None:
    assert read_failure(FileNotFoundError(2, "No such file or directory")) == "file not found"
    assert read_failure(PermissionError(13, "Permission denied")) == "cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n "b" 2}', "x.json:2:6: not valid JSON (Expecting ':' delimiter)"),
        ("[" * 100_000, "x.json: not valid JSON (nested too deeply)"),
    ],
)
def test_invalid_json_is_located(text: str, message: str) -> None:
    with pytest.raises((ValueError, RecursionError)) as caught:
        json.loads(text)
    assert invalid_json("x.json", caught.value) == message


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"{", ValueError),
        (b"\xff", ValueError),
        (b"[" * 200_000, ValueError),
        (b"1" * 100_000, ValueError),
        (None, OSError),
    ],
)
def test_json_that_cannot_be_read_is_an_os_error_or_a_value_error(
    tmp_path: Path, content: bytes | None, error: type[Exception]
) -> None:
    if content is not None:
        (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(error):
        read_json(tmp_path / "file.json")


def test_a_named_pipe_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_json(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"directory|not a regular file"):
        read_json(tmp_path)
    with pytest.raises(OSError, match="File name too long"):
        read_json(tmp_path / ("x" * 5000))


OUTSIDE = ("../x", "/etc/passwd", "a/../../x", "..", "link/x", "nul\0", "loop")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leaves_the_folder_is_no_file_in_it(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to("/etc")
    (folder / "loop").symlink_to("loop")
    assert file_in(folder, name) is None


def test_a_name_below_the_folder_is_a_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(".")
    assert file_in(tmp_path / "out", "traces/../traces/a.csv") == tmp_path.resolve() / "traces/a.csv"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "/a", "../a", "a\0"])
def test_a_manifest_names_files_of_its_own_folder_only(name: str) -> None:
    assert not is_plain_name(name)
    assert is_plain_name("..model.onnx")
