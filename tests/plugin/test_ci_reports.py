"""What CI systems read, from real sessions with all verdicts: JUnit XML, SARIF, and what a step on GitHub shows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from lxml import etree

from pytest_smoke.outcome import VERDICTS
from tests.plugin.conftest import Project
from tests.report.test_annotations import read
from tests.report.test_markdown import tokens
from tests.report.test_sarif import VALIDATOR

SCHEMA = Path(__file__).parents[1] / "data" / "junit-10.xsd"
XS = "{http://www.w3.org/2001/XMLSchema}"
NOT_EXPECTED = "Element 'properties': This element is not expected."
HOSTILE = ("a<b>&\"'", "new\nline", "esc\x1b[31m", "\x01", "pipe|`x`", "a%20b#1", "@octocat", "\u202e", "caf\u00e9")
UNFAIR = "full: {grad_accum_steps: 16}\nsmoke: {grad_accum_steps: 1}\n"


def schema(*, properties_of_testcases: bool) -> etree.XMLSchema:
    """Return the schema of the Jenkins plugin xunit, perhaps with the one thing that it lacks of what pytest writes."""
    tree = etree.parse(SCHEMA)
    if properties_of_testcases:
        (choice,) = tree.xpath("//xs:element[@name='testcase']//xs:choice", namespaces={"xs": XS[1:-1]})
        etree.SubElement(choice, f"{XS}element", ref="properties")
    return etree.XMLSchema(tree)


def errors_of(path: Path, *, properties_of_testcases: bool) -> list[str]:
    against = schema(properties_of_testcases=properties_of_testcases)
    against.validate(etree.parse(path))
    return [error.message for error in against.error_log]


def properties_of(path: Path, element: str) -> dict[str, str]:
    """Return the properties that are children of the elements with this name, all together."""
    found = etree.parse(path).findall(f".//{element}/properties/property")
    return {one.get("name"): one.get("value") for one in found}


CRASHES = """

class Crashes(Teacher):
    def losses(self, model, batch):
        raise RuntimeError("the labels file is empty: 100 %, \\n::error::forged")
"""


def all_verdicts(project: Project) -> None:
    """Write a recipe for each verdict, whose names they have."""
    with (project.path / "tasks.py").open("a") as tasks:
        tasks.write(CRASHES)
    project.recipe("promote")
    project.extending("unstable", "args: {momentum: 0.99}\nfull: {learning_rate: 5.0}\n", of="promote")
    loud = "task: tasks:TwoTerms\nargs: {scale: 100.0}\nchecks: {grad_ratio: {size/ce: [0.01, 8]}}\n"
    project.extending("hold", loud, of="promote")
    project.extending("invalid", UNFAIR, of="promote")
    project.extending("inconclusive", "requires: {device: cuda}\n", of="promote")
    project.extending("error", "task: tasks:Crashes\n", of="promote")


def test_every_report_of_a_session_with_all_verdicts_and_hostile_names_is_valid(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_verdicts(project)
    for name in HOSTILE:
        project.extending(name, UNFAIR, of="promote")
    (project.path / ".git").mkdir()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "step.md")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.path.parent))
    (project.path / "step.md").write_text("earlier\n")
    result = project.run("--smoke", "--smoke-report", "out", "--junitxml=junit.xml", "-n", "2")
    outcomes = project.verdicts()
    found = {name: one for one in outcomes if (name := one["recipe"].removesuffix(".smoke.yaml")) in VERDICTS}
    assert {name: outcome["verdict"] for name, outcome in found.items()} == {name: name for name in VERDICTS}

    sarif = json.loads((project.path / "out" / "smoke.sarif").read_text())
    assert [error.message for error in VALIDATOR.iter_errors(sarif)] == []
    assert str(project.path) not in (project.path / "out" / "smoke.sarif").read_text()
    levels = {one["ruleId"]: one["level"] for one in sarif["runs"][0]["results"]}
    assert levels["batch-geometry"] == levels["loss-trend"] == levels["grad-ratio"] == "error"
    assert {one["level"] for one in sarif["runs"][0]["results"] if one["ruleId"] == "run"} == {"error", "note"}

    summary = (project.path / "out" / "summary.md").read_text()
    assert (project.path / "step.md").read_text() == f"earlier\n\n{summary}"
    assert summary.startswith("### Smoke runs: 1 unstable, 1 error, 10 invalid, 1 hold, 1 inconclusive, 1 promoted\n")
    assert len([token for token in tokens(summary) if token.type == "tr_open"]) == 1 + len(outcomes)

    folder = project.path.name
    commands = [read(line) for line in result.outlines if line.lstrip().startswith("::")]
    assert [level for level, _, _ in commands] == ["error"] * 10 + ["warning", "notice"]
    shown = [(given["file"], given["line"]) for _, given, _ in commands[:3]]
    crashed = len((project.path / "tasks.py").read_text().splitlines())
    assert shown[:2] == [(f"{folder}/unstable.smoke.yaml", "3"), (f"{folder}/tasks.py", str(crashed))]
    assert (commands[-2][1]["file"], commands[-2][1]["line"]) == (f"{folder}/inconclusive.smoke.yaml", "2")
    assert commands[-1][2].startswith("3 more errors not shown here")
    assert result.outlines[-1].startswith("::notice ")

    junit = project.path / "junit.xml"
    assert errors_of(junit, properties_of_testcases=True) == []
    assert set(errors_of(junit, properties_of_testcases=False)) == {NOT_EXPECTED}
    assert len(etree.parse(junit).findall(".//testcase")) == len(outcomes)
    assert {"smoke_verdict", "smoke_text", "smoke_check[loss-trend]"} <= properties_of(junit, "testcase").keys()


def test_properties_of_the_test_suite_make_junit_valid_for_strict_readers(project: Project) -> None:
    project.recipe()
    for name in HOSTILE:
        project.extending(name, UNFAIR)
    options = ["-o", "smoke_junit_properties=testsuite", "--junitxml=junit.xml", "--smoke-report", "out", "-n", "1"]
    project.run("--smoke-preflight", *options).assert_outcomes(failed=len(HOSTILE))
    junit = project.path / "junit.xml"
    assert errors_of(junit, properties_of_testcases=False) == []
    assert properties_of(junit, "testcase") == {}
    found = properties_of(junit, "testsuite")
    for outcome in project.verdicts():
        assert found[f"smoke_text[{outcome['id']}]"] == outcome["text"]
        assert f"smoke_verdict[{outcome['id']}]" in found


def test_gitlab_gets_the_file_of_each_smoke_run_from_the_older_family(project: Project) -> None:
    """GitLab shows `classname`, `name`, `time`, `file` and the text of `failure`, and ignores everything else."""
    project.extending("unfair", UNFAIR, of=project.recipe().name.removesuffix(".smoke.yaml"))
    project.run("--smoke-preflight", "--junitxml=junit.xml", "-o", "junit_family=xunit1")
    cases = {case.get("file"): case for case in etree.parse(project.path / "junit.xml").findall(".//testcase")}
    assert cases.keys() == {"good.smoke.yaml", "unfair.smoke.yaml"}
    assert cases["unfair.smoke.yaml"].get("classname") == "unfair.smoke.yaml"
    assert cases["unfair.smoke.yaml"].get("name") == "constant"
    text = cases["unfair.smoke.yaml"].findtext("failure")
    assert text.startswith("invalid (different-effective-batch): ")
    assert "  unfair.smoke.yaml:3" in text
    assert cases["good.smoke.yaml"].findtext("skipped").startswith("good.smoke.yaml:4: all preflight checks")


def test_a_wrong_place_for_properties_is_an_error_that_says_what_is_allowed(project: Project) -> None:
    result = project.run("-o", "smoke_junit_properties=suite")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: smoke_junit_properties = suite: must be testcase or testsuite"])


INTERRUPTS = """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    if "later" in item.nodeid:
        raise KeyboardInterrupt
"""


def test_a_step_gets_its_summary_without_a_report_folder_and_after_ctrl_c(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.recipe()
    project.extending("early", UNFAIR)
    project.extending("later", UNFAIR)
    project.pytester.makeconftest(INTERRUPTS)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "step.md"))
    result = project.run("--smoke-preflight", "--no-summary")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    text = (project.path / "step.md").read_text()
    assert text.startswith("### Smoke runs: 1 invalid, 1 preflight ok\n")
    assert "**ERROR:** the session ended without an outcome of 1 smoke run: later" in text
    assert "report folder" not in text
    assert [read(line)[0] for line in result.outlines if line.startswith("::")] == ["error"]


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_faults_of_a_recipe_that_cannot_be_read_are_annotated_and_in_the_summary_of_the_step(
    project: Project, workers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.recipe("bad", "  max_step: 10\n  seed: x\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "step.md")
    result = project.run("--smoke-preflight", *workers)
    commands = [read(line) for line in result.outlines if line.startswith("::")]
    assert [(level, given["file"], given["line"]) for level, given, _ in commands] == [
        ("error", "bad.smoke.yaml", "9"),
        ("error", "bad.smoke.yaml", "10"),
    ]
    summary = (project.path / "step.md").read_text()
    assert summary.startswith("### Smoke runs: none\n\n**ERROR:** bad.smoke.yaml:9:3: ")


def test_a_summary_that_cannot_be_written_is_a_warning(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.recipe()
    os.mkfifo(project.path / "pipe")
    (project.path / "full.md").write_text("x" * 1024 * 1024)
    told = {
        "no/such/folder.md": "*step could not be written to no/such/folder.md: No such file or directory",
        ".": "*step could not be written to .: Is a directory",
        "pipe": "*step could not be written to pipe: No such device or address",
        "/dev/full": "*step could not be written to /dev/full: No space left on device",
        "full.md": "*step is full: it has no room for the smoke runs",
    }
    for path, warning in told.items():
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", path)
        result = project.run("--smoke-preflight")
        assert result.ret == pytest.ExitCode.OK
        result.stdout.fnmatch_lines([f"warning: the summary of the {warning}"])
    assert (project.path / "full.md").stat().st_size == 1024 * 1024


def test_outcomes_that_a_test_expects_are_no_annotations(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.recipe()
    project.extending("unfair", UNFAIR)
    project.pytester.makepyfile(
        test_mine="""
        import pytest

        @pytest.mark.smoke
        def test_expected(smoke):
            assert smoke("unfair.smoke.yaml").verdict == "invalid"

        @pytest.mark.smoke
        def test_not_expected(smoke):
            assert smoke("unfair.smoke.yaml").promoted
        """
    )
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = project.run("--smoke", "test_mine.py")
    result.assert_outcomes(passed=1, failed=1)
    (line,) = [line for line in result.outlines if line.startswith("::")]
    level, given, _ = read(line)
    assert (level, given["file"], given["title"].partition("#")[0]) == (
        "error",
        "unfair.smoke.yaml",
        "test_mine.py::test_not_expected",
    )


def test_a_session_without_smoke_runs_adds_nothing_to_the_step(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.recipe()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "step.md"))
    result = project.run("--smoke", "--collect-only")
    assert not (project.path / "step.md").exists()
    assert "::" not in "".join(line for line in result.outlines if line.startswith("::"))
