"""The lock of a report folder, and its `verdicts.json` while outcomes arrive."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path

import pytest

from pytest_smoke.collect.report_folder import VerdictsFile, lock, set_aside, sweep
from pytest_smoke.errors import SmokeError
from pytest_smoke.files import file_name
from pytest_smoke.outcome import Facts
from pytest_smoke.report.verdicts_json import verdicts_json
from tests.report.test_terminal import outcome


def ids(folder: Path) -> list[str]:
    return [one["id"] for one in json.loads((folder / "verdicts.json").read_text())["outcomes"]]


def test_a_folder_is_locked_until_it_is_unlocked(tmp_path: Path) -> None:
    unlock = lock(tmp_path / "out")
    with pytest.raises(SmokeError, match=rf"another pytest session \(process {os.getpid()}\) is writing to "):
        lock(tmp_path / "out")
    unlock()
    lock(tmp_path / "out")()


def test_a_lock_that_cannot_be_written_is_released(tmp_path: Path) -> None:
    """As on a full disk; another session in this process would take its own handle for that of a second process."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            lock(tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    lock(tmp_path / "out")()


LINKS = ("traces", "stale", "checkpoints/a", "packages", ".lock", "traces/a.csv", "checkpoints/a/events.jsonl", "x")


@pytest.mark.parametrize("name", LINKS)
def test_a_link_that_leaves_the_folder_is_refused_and_nothing_outside_is_touched(tmp_path: Path, name: str) -> None:
    """`sweep` would remove hidden files there, and the lock would empty the file."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ".bashrc").write_text("mine")
    link = tmp_path / "out" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(outside if "." not in name else outside / ".bashrc")
    with pytest.raises(SmokeError, match=f"{name} is a symbolic link to .*, outside of the report folder"):
        lock(tmp_path / "out")
    assert (outside / ".bashrc").read_text() == "mine"


def test_links_within_the_folder_and_the_folder_itself_may_be_links(tmp_path: Path) -> None:
    (tmp_path / "out/traces").mkdir(parents=True)
    (tmp_path / "out/newest").symlink_to("traces")
    (tmp_path / "link").symlink_to("out")
    lock(tmp_path / "link")()


def test_only_what_a_killed_session_left_half_written_is_removed(tmp_path: Path) -> None:
    kept = ["verdicts.json", "traces/a.csv", "predictions/a.jsonl", "checkpoints/a/events.jsonl", ".hidden"]
    half = [
        *(".verdicts.json.x1", "traces/.a.csv.x1", "predictions/.a.jsonl.partial"),
        *("packages/.a.partial/model.onnx", "checkpoints/a/.trained.x1/model.safetensors", "checkpoints/a/.step-7.x/m"),
    ]
    for name in (*kept, *half):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_all_outcomes_are_in_the_file_soon_also_if_thousands_arrive_at_once(tmp_path: Path) -> None:
    file = VerdictsFile(tmp_path)
    file.create()
    assert ids(tmp_path) == []
    outcomes = [outcome(id=f"{number:04}.smoke.yaml::constant") for number in range(2000)]
    for one in outcomes:
        file.add(one)
    deadline = time.monotonic() + 60
    while len(ids(tmp_path)) < 2000:  # nobody calls `flush`
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (tmp_path / "verdicts.json").read_text() == verdicts_json(outcomes)


def test_the_first_outcome_is_written_at_once_and_flush_writes_the_rest(tmp_path: Path) -> None:
    file = VerdictsFile(tmp_path)
    file.add(outcome(id="b"))
    assert ids(tmp_path) == ["b"]
    for name in ("a", "c", "d"):
        file.add(outcome(id=name))
    file.flush()
    assert ids(tmp_path) == ["a", "b", "c", "d"]


def test_a_file_that_cannot_be_written_is_a_problem_until_it_can_be(tmp_path: Path) -> None:
    file = VerdictsFile(tmp_path)
    (tmp_path / "verdicts.json").mkdir()
    file.add(outcome(id="a"))
    assert file.problem == f"{tmp_path / 'verdicts.json'} could not be written: Is a directory"
    (tmp_path / "verdicts.json").rmdir()
    file.flush()
    assert file.problem == ""
    assert ids(tmp_path) == ["a"]


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def make(folder: Path, *names: str, text: str = "") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


ONE, TWO = file_name("a.smoke.yaml::constant"), file_name(f"a.smoke.yaml::{'x' * 200}")


def test_results_of_items_are_set_aside_and_nothing_else(tmp_path: Path) -> None:
    results = [
        *(f"traces/{ONE}.csv", f"traces/{TWO}.csv", f"logs/{ONE}.log", f"predictions/{ONE}.jsonl"),
        *(f"packages/{ONE}/model.onnx", f"checkpoints/{ONE}/trained/w", f"checkpoints/{ONE}/last-good/w"),
    ]
    kept = [
        *(f"checkpoints/{ONE}/step-7/w", f"checkpoints/{ONE}/events.jsonl", f"checkpoints/{ONE}/checked/w"),
        *(
            f"receipts/{ONE}.json",
            "traces/mine.csv",
            "logs/train-20261126.log",
            "checkpoints/best/trained/w",
            "junit.xml",
        ),
    ]
    make(tmp_path, *results, *kept)
    set_aside(tmp_path, bisect=False)
    assert tree(tmp_path) == sorted([*kept, *(f"stale/{name}" for name in results)])
    assert not (tmp_path / "packages").exists(), "an empty folder is no result"


def test_of_files_with_one_name_the_newest_stays_in_stale(tmp_path: Path) -> None:
    for text in ("old", "new"):
        make(tmp_path, f"traces/{ONE}.csv", f"checkpoints/{ONE}/trained/{text}", text=text)
        set_aside(tmp_path, bisect=False)
    assert tree(tmp_path) == [f"stale/checkpoints/{ONE}/trained/new", f"stale/traces/{ONE}.csv"]
    assert (tmp_path / "stale" / "traces" / f"{ONE}.csv").read_text() == "new"


def test_a_folder_on_another_disk_is_set_aside_too(tmp_path: Path) -> None:
    """Checkpoints are linked to a larger disk. What is moved between file systems is copied."""
    make(tmp_path / "disk", f"{ONE}/trained/w")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "checkpoints").symlink_to(tmp_path / "disk")
    set_aside(tmp_path / "out", bisect=False)
    assert tree(tmp_path / "out" / "stale") == [f"checkpoints/{ONE}/trained/w"]
    assert tree(tmp_path / "disk") == []


def test_outcomes_of_all_earlier_sessions_stay_and_the_newest_of_each_id_counts(tmp_path: Path) -> None:
    for names, text in (("ab", "first"), ("bc", "second"), ("", "nothing ran")):
        facts = Facts(recipe_text=f"# {text}\n")
        (tmp_path / "verdicts.json").write_text(
            verdicts_json(outcome(id=name, text=text, facts=facts) for name in names)
        )
        set_aside(tmp_path, bisect=False)
        assert not (tmp_path / "verdicts.json").exists()
    kept = json.loads((tmp_path / "stale" / "verdicts.json").read_text())
    assert {one["id"]: one["text"] for one in kept["outcomes"]} == {"a": "first", "b": "second", "c": "second"}
    recipes = {one["id"]: kept["recipe_texts"][one["facts"]["recipe_text_sha256"]] for one in kept["outcomes"]}
    assert recipes == {"a": "# first\n", "b": "# second\n", "c": "# second\n"}
