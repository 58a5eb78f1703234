"""`--smoke-report` into a used folder: what is not in `stale/` is from this session."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_smoke.files import file_name
from pytest_smoke.page.session_reports import RENDERERS
from tests.plugin.conftest import RECIPE, Project

SHORT = RECIPE.replace("max_steps: 400", "max_steps: 60")
OF_THE_USER = ("notes.txt", "logs/train-20261126.log", "checkpoints/step-12345678/trained/model.bin")
"""Files that somebody else put there; two have names that are nearly those of smoke runs."""
RECEIPT = "receipts/other.json"


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def not_of_this_session(project: Project, folder: str = "out") -> set[str]:
    """Return the files outside `stale/` that belong to no outcome in `verdicts.json`."""
    named = {"verdicts.json", ".lock", *RENDERERS} | {file_name(outcome["id"]) for outcome in project.verdicts(folder)}
    present = {path for path in files(project.path / folder) if not path.startswith(("stale/", "receipts/"))}
    return {path for path in present if not any(name in path for name in named)}


def stale_ids(project: Project) -> list[str]:
    return [one["id"] for one in json.loads((project.path / "out" / "stale" / "verdicts.json").read_text())["outcomes"]]


@pytest.fixture
def used(project: Project) -> Project:
    """Return a project whose folder `out` has the results of `good` and `other`, and files of somebody else."""
    project.recipe(base=SHORT)
    project.extending("other", "full: {learning_rate: 2.0e-3}\n")
    project.run("--smoke", "--smoke-report", "out")
    for name in (*OF_THE_USER, RECEIPT):
        (project.path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (project.path / "out" / name).write_text("mine")
    assert not_of_this_session(project) == set(OF_THE_USER)
    return project


def receipts(project: Project) -> set[str]:
    return {path for path in files(project.path / "out" / "receipts") if not path.startswith("refused/")}


@pytest.mark.parametrize(
    "listing",
    [
        *(["--collect-only"], ["--help"], ["--markers"], ["--fixtures"], ["--cache-show"], ["--setup-plan"]),
        ["--collect-only", "-n", "2"],
    ],
    ids=" ".join,
)
def test_a_session_that_executes_nothing_touches_nothing(project: Project, listing: list[str]) -> None:
    project.recipe(base=SHORT)
    (project.path / "out").mkdir()
    (project.path / "out" / "verdicts.json").write_text('{"schema": 1, "outcomes": []}\n')
    before = {path: path.stat().st_mtime_ns for path in project.path.joinpath("out").rglob("*")}
    result = project.run("--smoke", "--smoke-report", "out", *listing)
    assert result.ret == pytest.ExitCode.OK
    assert {path: path.stat().st_mtime_ns for path in project.path.joinpath("out").rglob("*")} == before


def test_a_session_that_only_lists_creates_no_folder(project: Project) -> None:
    project.recipe(base=SHORT)
    project.run("--smoke", "--smoke-report", "new", "--collect-only")
    assert not (project.path / "new").exists()


def test_what_a_session_does_not_run_again_is_in_stale_with_its_outcomes(used: Project) -> None:
    """A selected recipe, a deleted one, then none at all; what is not from a session stays where it is."""
    other = file_name("other.smoke.yaml::constant")
    (used.path / "other.smoke.yaml").unlink()
    used.run("--smoke", "--smoke-report", "out", "-k", "good")
    assert [outcome["id"] for outcome in used.verdicts()] == ["good.smoke.yaml::constant"]
    assert not_of_this_session(used) == set(OF_THE_USER)
    assert stale_ids(used) == ["good.smoke.yaml::constant", "other.smoke.yaml::constant"]
    stale = files(used.path / "out" / "stale")
    assert {f"traces/{other}.csv", f"checkpoints/{other}/trained/model.safetensors"} <= stale
    assert not [path for path in stale if "good" in path], "it trained again"
    (used.path / "out" / "stale" / "index.html").write_text("made by somebody of these outcomes")
    used.run("--smoke", "--smoke-report", "out", "-k", "nothing")
    assert used.verdicts() == []
    assert not (used.path / "out" / "stale" / "index.html").exists()
    assert not_of_this_session(used) == set(OF_THE_USER)
    good = file_name("good.smoke.yaml::constant")
    assert stale | {f"traces/{good}.csv", f"checkpoints/{good}/trained/model.safetensors"} <= files(
        used.path / "out" / "stale"
    )
    assert stale_ids(used) == ["good.smoke.yaml::constant", "other.smoke.yaml::constant"]


def test_a_receipt_stays_until_its_smoke_run_is_trained_again(used: Project) -> None:
    good, other = (f"{file_name(f'{name}.smoke.yaml::constant')}.json" for name in ("good", "other"))
    used.run("--smoke-preflight", "--smoke-report", "out")
    used.run("--smoke", "--smoke-report", "out", "-k", "nothing")
    assert receipts(used) == {good, other, Path(RECEIPT).name}
    used.recipe(base=SHORT.replace("3.0e-3", "1.0e+9"))
    used.run("--smoke", "--smoke-report", "out", "-k", "good").assert_outcomes(failed=1)
    assert receipts(used) == {other, Path(RECEIPT).name}


@pytest.mark.parametrize("workers", [["-p", "no:xdist"], ["-n", "1", "--max-worker-restart=0"]], ids=str)
def test_a_killed_session_leaves_only_what_it_made_itself(used: Project, workers: list[str]) -> None:
    """The pytest process, or its worker, dies in the second smoke run."""
    used.pytester.makeconftest(
        "import os, pytest\n"
        "@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_runtest_call(item):\n"
        "    if item.nodeid.startswith('other'):\n"
        "        os._exit(9)\n"
    )
    in_order = ("-p", "no:cacheprovider")  # with the durations of the first session, the longer run starts first
    used.run("--smoke", "--smoke-report", "out", *in_order, *workers, fresh=True)
    verdicts = {outcome["id"].partition(".")[0]: outcome["verdict"] for outcome in used.verdicts()}
    assert verdicts.pop("good") == "promote"
    assert verdicts in ({}, {"other": "error"})
    assert not_of_this_session(used) == set(OF_THE_USER)
    assert stale_ids(used) == ["good.smoke.yaml::constant", "other.smoke.yaml::constant"]
    (used.path / "conftest.py").unlink()
    used.run("--smoke-preflight", "--smoke-report", "out")
    assert not_of_this_session(used) == set(OF_THE_USER)
    stale = json.loads((used.path / "out" / "stale" / "verdicts.json").read_text())["outcomes"]
    assert {one["id"].partition(".")[0]: one["verdict"] for one in stale}["good"] == "promote"


def test_a_bisect_and_the_smoke_runs_before_and_after_it_are_not_mixed(used: Project) -> None:
    """The verdicts that a bisect continues from are compared with its recipes, so a session in between costs none."""
    used.extending("wild", "args: {momentum: 0.99}\nfull: {learning_rate: 5.0}\n")
    bisect = ("--smoke-bisect", "good.smoke.yaml", "wild.smoke.yaml", "--smoke-report", "out")
    used.run(*bisect)
    assert not (used.path / "out" / "verdicts.json").exists()
    assert stale_ids(used) == ["good.smoke.yaml::constant", "other.smoke.yaml::constant"]
    state = json.loads((used.path / "out" / "bisect.json").read_text())
    used.run("--smoke-preflight", "--smoke-report", "out")
    assert not_of_this_session(used) == set(OF_THE_USER)
    assert (used.path / "out" / "stale" / "bisect.json").exists()
    again = used.run(*bisect)
    assert json.loads((used.path / "out" / "bisect.json").read_text())["decided"] == state["decided"]
    assert not (used.path / "out" / "stale" / "bisect.json").exists()
    again.stdout.fnmatch_lines(["*earlier session*"])
    assert not [path for path in files(used.path / "out") if path.startswith("traces/")], "nothing trained"


def test_verdicts_that_cannot_be_read_are_kept_under_another_name(project: Project) -> None:
    project.recipe(base=SHORT)
    out = project.path / "out"
    out.mkdir()
    (out / "verdicts.json").write_text('{"schema": 99, "outcomes": []}')
    project.run("--smoke-preflight", "--smoke-report", "out")
    assert (out / "stale" / "unreadable-verdicts.json").read_text() == '{"schema": 99, "outcomes": []}'
    (out / "stale" / "verdicts.json").write_text("{")
    project.run("--smoke-preflight", "--smoke-report", "out")
    assert (out / "stale" / "unreadable-verdicts.json").read_text() == "{"
    assert stale_ids(project) == ["good.smoke.yaml::constant"]


def test_a_folder_that_cannot_be_set_aside_is_a_usage_error_and_loses_nothing(used: Project) -> None:
    (used.path / "out" / "stale").write_text("in the way")
    before = used.verdicts()
    result = used.run("--smoke", "--smoke-report", "out")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --smoke-report *out: cannot write *stale: *"])
    assert used.verdicts() == before
