"""Outcomes that no report carries."""

from __future__ import annotations

from pytest_smoke.outcome import Finding
from tests.judge.registered import is_registered
from tests.plugin.conftest import Project


def test_a_run_whose_worker_died_has_a_finding_that_decided_and_the_facts_that_are_known(project: Project) -> None:
    project.recipe()
    project.pytester.makeconftest(
        "import os, pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_call(item):\n    os._exit(9)\n"
    )
    project.run("--smoke", "-n", "1", "--max-worker-restart=0", "--smoke-report", "out")
    (outcome,) = project.verdicts()
    (finding,) = map(Finding.from_dict, outcome["findings"])
    assert is_registered(finding)
    assert (outcome["decided_by"], outcome["reason"]) == (finding.id, finding.reason) == ("run", "worker-crash")
    assert {"python", "pytest", "torch"} <= outcome["facts"]["versions"].keys()
