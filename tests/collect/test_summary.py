"""Outcomes that no report carries."""

from __future__ import annotations

import pytest

from pytest_smoke.outcome import Finding
from tests.judge.registered import is_registered
from tests.plugin.conftest import Project


def test_a_run_whose_worker_died_has_a_finding_that_decided_and_the_facts_that_are_known(project: Project) -> None:
    project.recipe()
    project.pytester.makeconftest(
        "import os, pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_call(item):\n    os._exit(9)\n"
    )
    result = project.run("--smoke", "-n", "1", "--max-worker-restart=0", "--smoke-report", "out")
    result.stdout.fnmatch_lines(["_* good.smoke.yaml: constant _*"])
    (outcome,) = project.verdicts()
    (finding,) = map(Finding.from_dict, outcome["findings"])
    assert is_registered(finding)
    assert (outcome["decided_by"], outcome["reason"]) == (finding.id, finding.reason) == ("run", "worker-crash")
    assert {"python", "pytest", "torch"} <= outcome["facts"]["versions"].keys()


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
@pytest.mark.parametrize(("color", "shown"), [("yes", True), ("no", False)])
def test_verdict_and_status_of_a_failure_are_coloured(
    project: Project, workers: tuple[str, ...], color: str, shown: bool
) -> None:
    project.recipe()
    project.extending("unfair", "full: {grad_accum_steps: 16}\nsmoke: {grad_accum_steps: 1}\n")
    result = project.run("--smoke-preflight", f"--color={color}", "--junitxml=junit.xml", *workers)
    text = result.stdout.str()
    assert ("\x1b[31m\x1b[1minvalid (different-effective-batch)\x1b[0m: the smoke run has" in text) is shown
    assert ("\x1b[31m\x1b[1m  FAIL\x1b[0m  batch-geometry: see above" in text) is shown
    assert ("\x1b[" in text) is shown
    assert "\x1b" not in (project.path / "junit.xml").read_text()


def test_no_color_switches_colours_off(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    project.recipe()
    assert "\x1b[" not in project.run("--smoke-preflight").stdout.str()
