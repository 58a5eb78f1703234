"""Hooks for other plugins: further checks, and the outcome of every smoke run."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from pytest_smoke.judge.checks.registry import Registry
from pytest_smoke.report.verdicts_schema import json_schema
from tests.plugin.conftest import Project

TEAM_CHECKS = """\
from pytest_smoke import Check, Finding, Reason

def learning_rate_rule(case):
    rate = case.settings.learning_rate
    if rate < 1e-3:
        text = f"learning_rate is {rate:g}, below 0.001"
        yield Finding(id="team-rate", status="fail", reason="rate-too-low", text=text)
    else:
        yield Finding(id="team-rate", status="pass", text=f"learning_rate is {rate:g}")

TEAM_RATE = Check(
    id="team-rate",
    question="Is the learning rate one that the team uses?",
    when="preflight",
    verdict="invalid",
    key="full.learning_rate",
    reasons=(Reason(id="rate-too-low", status="fail", when="it is below 0.001"),),
    before_run=learning_rate_rule,
)
"""
ADDS_TEAM_RATE = """
import team_checks

def pytest_smoke_checks(config):
    return [team_checks.TEAM_RATE]
"""
RECORDS_OUTCOMES = """
def pytest_smoke_outcome(config, outcome):
    worker = config.workerinput["workerid"] if hasattr(config, "workerinput") else "controller"
    with open(config.rootpath / "received.txt", "a") as file:
        file.write(f"{worker} {outcome.id} {outcome.verdict} {outcome.decided_by}\\n")
"""
RAISES_FOR_BAD = """
from dataclasses import replace
import team_checks

def raises(run):
    if "bad" in run.case.path:
        raise FileNotFoundError("limits.json")
    return []

def pytest_smoke_checks(config):
    return [replace(team_checks.TEAM_RATE, before_run=None, at_end=raises)]
"""


@pytest.fixture
def team(project: Project) -> Project:
    """A project with a check of its own, and the recipes `good` and `bad`; `bad` has a low learning rate."""
    (project.path / "team_checks.py").write_text(TEAM_CHECKS)
    project.recipe()
    project.extending("bad", "full: {learning_rate: 1.0e-4}\n")
    return project


def by_recipe(project: Project) -> dict[str, dict[str, Any]]:
    return {outcome["recipe"].removesuffix(".smoke.yaml"): outcome for outcome in project.verdicts()}


def finding_of(outcome: dict[str, Any], finding_id: str) -> dict[str, Any]:
    (finding,) = [finding for finding in outcome["findings"] if finding["id"] == finding_id]
    return dict(finding)


def test_a_check_of_a_plugin_is_in_every_report_without_further_edits(
    team: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.pytester.makeconftest(ADDS_TEAM_RATE)
    result = team.run("--smoke", "--smoke-mode", "wiring", "--smoke-report", "out", "--junitxml=junit.xml")
    result.stdout.fnmatch_lines(
        ["invalid (rate-too-low): learning_rate is 0.0001, below 0.001", "  bad.smoke.yaml:2", "report: out/index.html"]
    )
    outcomes = by_recipe(team)
    bad, good = outcomes["bad"], outcomes["good"]
    assert (bad["verdict"], bad["reason"], bad["decided_by"]) == ("invalid", "rate-too-low", "team-rate")
    assert finding_of(bad, "team-rate")["key"] == "full.learning_rate"
    assert (good["reason"], finding_of(good, "team-rate")["status"]) == ("wiring", "pass")
    properties = {
        element.attrib["value"]
        for element in ElementTree.parse(team.path / "junit.xml").getroot().iter("property")
        if element.attrib["name"] == "smoke_check[team-rate]"
    }
    assert properties == {"fail", "pass"}
    monkeypatch.syspath_prepend(team.path)
    import team_checks  # type: ignore[import-not-found]  # the module of the project

    schema = json_schema(Registry([team_checks.TEAM_RATE]))
    assert "team-rate" in schema["$defs"]["Finding"]["properties"]["id"]["pattern"]
    assert "rate-too-low" in json.dumps(schema["$defs"]["Finding"]["allOf"])
    assert "team-rate" not in json.dumps(json_schema())


def test_a_check_that_raises_makes_its_run_inconclusive_and_no_other(team: Project) -> None:
    team.pytester.makeconftest(RAISES_FOR_BAD + RECORDS_OUTCOMES)
    result = team.run("--smoke", "--smoke-report", "out", "-n", "2")
    result.assert_outcomes(passed=1, failed=1)
    outcomes = by_recipe(team)
    bad = outcomes["bad"]
    assert (bad["verdict"], bad["reason"], bad["decided_by"]) == ("inconclusive", "check-raised", "team-rate")
    assert bad["text"] == "the check raised FileNotFoundError: limits.json"
    assert outcomes["good"]["verdict"] == "promote"
    assert sorted((team.path / "received.txt").read_text().splitlines()) == [
        "controller bad.smoke.yaml::constant inconclusive team-rate",
        "controller good.smoke.yaml::constant promote loss-trend",
    ]


def test_each_outcome_is_received_once_without_workers(team: Project) -> None:
    """Also those of runs that did not train."""
    team.recipe("elsewhere", "requires: {device: cuda}\n")
    team.pytester.makeconftest(RECORDS_OUTCOMES)
    team.run("--smoke", "--smoke-preflight", "--smoke-report", "out")
    received = [line.split()[:3] for line in (team.path / "received.txt").read_text().splitlines()]
    assert sorted(received) == [
        ["controller", f"{name}.smoke.yaml::constant", "inconclusive"] for name in ("bad", "elsewhere", "good")
    ]
    for outcome in team.verdicts():
        assert {"started_at", "versions"} <= outcome["facts"].keys()


@pytest.mark.parametrize("options", [[], ["-W", "error"]])
def test_an_outcome_hook_that_raises_is_a_warning(team: Project, options: list[str]) -> None:
    """Under `-W error` it still does not end the session."""
    team.pytester.makeconftest("def pytest_smoke_outcome(outcome):\n    raise OSError('the server is down')\n")
    result = team.run("--smoke", "--smoke-mode", "wiring", "--smoke-report", "out", "good.smoke.yaml", *options)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        ["*pytest_smoke_outcome raised OSError for good.smoke.yaml::wiring: the server is down"]
    )
    assert [outcome["reason"] for outcome in team.verdicts()] == ["wiring"]


@pytest.mark.parametrize(
    ("conftest", "message"),
    [
        (
            "import dataclasses, team_checks\n"
            "def pytest_smoke_checks(config):\n"
            "    return [dataclasses.replace(team_checks.TEAM_RATE, id='schedule')]\n",
            "ERROR: pytest_smoke_checks added a check 'schedule', which exists already",
        ),
        (
            "def pytest_smoke_checks(config):\n    return ['team-rate']\n",
            "ERROR: pytest_smoke_checks returned ['team-rate']; it must return a list of Check objects",
        ),
        (
            "import team_checks\ndef pytest_smoke_checks(config):\n    return team_checks.TEAM_RATE\n",
            "ERROR: pytest_smoke_checks returned Check(*; it must return a list of Check objects",
        ),
    ],
)
def test_checks_that_cannot_be_added_are_one_line_and_a_usage_error(team: Project, conftest: str, message: str) -> None:
    team.pytester.makeconftest(conftest)
    result = team.run("--smoke")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.errlines if line.strip()]
    assert len(lines) == 1, lines
    assert re.fullmatch(re.escape(message).replace(re.escape("*"), ".*"), lines[0])


def test_without_smoke_the_hooks_are_not_called(team: Project) -> None:
    team.pytester.makeconftest("def pytest_smoke_checks(config):\n    raise AssertionError\n")
    assert team.run("-q").ret == pytest.ExitCode.NO_TESTS_COLLECTED
