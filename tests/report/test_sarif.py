"""`smoke.sarif`: valid, stable where lines move, and without the folders of this machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator

from pytest_smoke.judge.checks.registry import CHECKS
from pytest_smoke.outcome import Facts, Finding, Outcome
from pytest_smoke.report import sarif as module
from pytest_smoke.report.sarif import sarif
from tests.report.hostile import hostile_outcomes
from tests.report.test_summary_markdown import failed
from tests.report.test_terminal import outcome

SCHEMA = json.loads((Path(__file__).parents[1] / "data" / "sarif-2.1.0-rtm.5.json").read_text())
VALIDATOR = Draft4Validator(SCHEMA, format_checker=Draft4Validator.FORMAT_CHECKER)


def run_of(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return the only run of a valid file that is strict JSON."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is not JSON")

    tree = json.loads(sarif(outcomes), parse_constant=refuse)
    assert [error.message for error in VALIDATOR.iter_errors(tree)] == []
    (run,) = tree["runs"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    found: dict[str, Any] = run
    return found


def location(result: dict[str, Any]) -> tuple[str, int]:
    physical = result["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"]["uriBaseId"] == "%SRCROOT%"
    return physical["artifactLocation"]["uri"], physical["region"]["startLine"]


def test_every_check_is_a_rule_with_its_question_and_reasons() -> None:
    rules = {rule["id"]: rule for rule in run_of([])["tool"]["driver"]["rules"]}
    assert rules.keys() == {check.id for check in CHECKS}
    for check in CHECKS:
        assert rules[check.id]["shortDescription"]["text"] == check.question
        assert all(reason.id in rules[check.id]["help"]["text"] for reason in check.reasons)
    assert rules["loss-trend"]["defaultConfiguration"]["level"] == "error"
    assert rules["peak-regression"]["defaultConfiguration"]["level"] == "warning"


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "error"),
        ({"verdict": "hold"}, "error"),
        ({"verdict": "inconclusive", "reason": "missing-metric"}, "warning"),
        ({"verdict": "inconclusive", "reason": "unmet-requirements"}, "note"),
    ],
)
def test_the_verdict_decides_the_level_of_a_failed_finding(changes: dict[str, Any], level: str) -> None:
    (result,) = run_of([replace(failed(1), **changes)])["results"]
    assert (result["level"], result["ruleId"]) == (level, "loss-trend")


def test_a_warning_is_a_warning_of_a_promoted_run_and_a_note_of_another() -> None:
    warned = Finding(id="peak-regression", status="warn", text="fell")
    (result,) = run_of([outcome(findings=(warned,))])["results"]
    assert result["level"] == "warning"
    unstable = failed(1)
    results = run_of([replace(unstable, findings=(*unstable.findings, warned))])["results"]
    assert [result["level"] for result in results] == ["error", "note"]


def test_the_finding_that_decided_is_a_result_also_if_its_check_was_not_made() -> None:
    finding = Finding(id="run", status="not-checked", reason="interrupted", text="interrupted after step 7")
    run = run_of([outcome(verdict="inconclusive", reason="interrupted", decided_by="run", findings=(finding,))])
    assert [result["ruleId"] for result in run["results"]] == ["run"]
    assert run["invocations"] == [{"executionSuccessful": False}]
    assert run_of([failed(1)])["invocations"] == [{"executionSuccessful": True}]


def test_a_run_that_a_test_executed_is_a_note_because_the_test_decides() -> None:
    (result,) = run_of([failed(1, id="test_a.py::test_b#0")])["results"]
    assert result["level"] == "note"


def test_a_message_names_a_file_without_the_folders_of_this_machine() -> None:
    text = "no file: '/home/me/data/labels.csv' at 12 samples/s, see https://example.org/a/b and size/ce"
    (result,) = run_of([failed(1, text)])["results"]
    shown = "no file: '.../labels.csv' at 12 samples/s, see https://example.org/a/b and size/ce"
    assert result["message"]["text"].startswith(f"{shown} (r00001.smoke.yaml::constant: unstable (rise))")


def test_completed_runs_and_passed_checks_are_no_results() -> None:
    passed = Finding(id="mix", status="pass", text="fair")
    wiring = Finding(id="run", status="not-checked", reason="wiring", text="no verdict")
    completed = outcome(verdict="inconclusive", reason="wiring", decided_by="run", findings=(passed, wiring))
    assert run_of([outcome(findings=(passed,)), completed])["results"] == []


def test_a_fingerprint_stays_where_the_line_moves_and_differs_between_runs_and_checks() -> None:
    def fingerprints(*outcomes: Outcome) -> list[str]:
        return [result["partialFingerprints"]["primaryLocationLineHash"] for result in run_of([*outcomes])["results"]]

    first = failed(1)
    moved = replace(first, findings=(replace(first.findings[0], key_place="r.smoke.yaml:40", text="loss rose again"),))
    assert fingerprints(first) == fingerprints(moved)
    assert location(run_of([moved])["results"][0]) == ("r.smoke.yaml", 40)
    other = replace(first, findings=(*first.findings, Finding(id="mix", status="fail", text="t")))
    assert len(set(fingerprints(other, failed(2)))) == 3


@pytest.mark.parametrize(
    ("place", "folder", "uri"),
    [
        ("recipes/a b#1.smoke.yaml:7", None, "recipes/a%20b%231.smoke.yaml"),
        ("a%20b:c.smoke.yaml:7", None, "a%2520b%3Ac.smoke.yaml"),
        ("\u00e9.smoke.yaml:7", "ml", "ml/%C3%A9.smoke.yaml"),
        ("../other/a.smoke.yaml:7", "ml", "other/a.smoke.yaml"),
    ],
)
def test_a_path_is_relative_to_the_repository_and_percent_encoded(place: str, folder: str | None, uri: str) -> None:
    finding = replace(failed(1).findings[0], key_place=place)
    (result,) = run_of([replace(failed(1), findings=(finding,), facts=Facts(repository_folder=folder))])["results"]
    assert location(result) == (uri, 7)


def test_code_outside_of_the_project_is_reported_at_the_recipe() -> None:
    finding = replace(failed(1).findings[0], place="/usr/lib/python3/task.py:30")
    (result,) = run_of([replace(failed(1), findings=(finding,))])["results"]
    assert location(result) == ("r.smoke.yaml", 3)
    inside = replace(finding, place="tasks.py:31")
    (result,) = run_of([replace(failed(1), findings=(inside,))])["results"]
    assert location(result) == ("tasks.py", 31)


@given(st.lists(hostile_outcomes(), max_size=4))
def test_every_outcome_gives_a_valid_file_whose_paths_stay_in_the_repository(outcomes: list[Outcome]) -> None:
    for result in run_of(outcomes)["results"]:
        uri, line = location(result)
        assert line >= 1
        assert uri.isascii()
        assert not uri.startswith("/")
        assert unquote(uri).split("/")[0] != ".."
        assert "](" not in result["message"]["text"]


def test_the_least_severe_results_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit that a test can reach; that of GitHub is 25,000."""
    monkeypatch.setattr(module, "MAX_RESULTS", 3)
    warned = outcome(findings=tuple(Finding(id=f"w{number}", status="warn", text="t") for number in range(5)))
    run = run_of([warned, failed(1)])
    assert [result["level"] for result in run["results"]] == ["error", "warning", "warning"]
    (notification,) = run["invocations"][0]["toolExecutionNotifications"]
    assert notification["message"]["text"].startswith("3 less severe results left out")
