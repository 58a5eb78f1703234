"""Digests of data: what they cover, and that they take bounded time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke import data_files
from pytest_smoke.data_files import data_digest

NAMES = st.text(st.sampled_from("ab.-\N{LATIN SMALL LETTER E WITH ACUTE}"), min_size=1, max_size=4).filter(
    lambda name: name not in (".", "..")
)
FOLDERS = st.dictionaries(NAMES, st.binary(max_size=20), max_size=4)


@given(first=FOLDERS, second=FOLDERS)
def test_two_folders_have_one_digest_only_if_they_are_equal(
    first: dict[str, bytes], second: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    digests = []
    for files in (first, second):
        folder = tmp_path_factory.mktemp("data")
        for name, content in files.items():
            (folder / name).write_bytes(content)
        digests.append(data_digest(folder))
    assert (digests[0] == digests[1]) == (first == second)


def test_folders_in_folders_count_and_the_folder_s_own_name_does_not(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "a" / "b").mkdir(parents=True)
        (tmp_path / name / "a" / "b" / "c").write_text("text")
        (tmp_path / name / "empty").mkdir()
    first = data_digest(tmp_path / "one")
    assert first == data_digest(tmp_path / "two")
    assert (first.files, first.bytes, first.whole) == (1, 4, True)
    (tmp_path / "two" / "a" / "c").write_text("")
    assert first != data_digest(tmp_path / "two")


@pytest.mark.parametrize("where", [0, -1])
def test_of_large_data_size_and_both_ends_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: int) -> None:
    monkeypatch.setattr(data_files, "WHOLE_BYTES", 2**16)
    content = bytearray(os.urandom(2**18))
    file = tmp_path / "large"
    file.write_bytes(content)
    before = data_digest(file)
    assert not before.whole
    content[where] ^= 1
    file.write_bytes(content)
    assert data_digest(file) != before
    file.write_bytes(content + b"x")
    assert data_digest(file).bytes == before.bytes + 1


def test_of_a_large_folder_every_file_is_sampled_in_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_files, "WHOLE_BYTES", 2**16)
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 2**40)
    (tmp_path / "small").write_text("a")
    before = data_digest(tmp_path)
    assert (before.files, before.whole) == (2, False)
    (tmp_path / "small").write_text("b")
    assert data_digest(tmp_path) != before


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
    with pytest.raises(OSError, match="more than 1 files"):
        data_digest(tmp_path, max_files=1)
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "nothing"):
        with pytest.raises(OSError):  # noqa: PT011  # each system words it differently
            data_digest(tmp_path / name)
