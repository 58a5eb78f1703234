"""What a session keeps of each smoke run until it ends: pytest keeps all items and reports."""

from __future__ import annotations

from collections.abc import Callable

import pytest

COUNTS_OBJECTS = """
import gc
import json

from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe.model import Settings

counts = []

def pytest_runtest_logfinish():
    gc.collect()
    alive = gc.get_objects()
    counts.append([sum(isinstance(one, kind) for one in alive) for kind in (Outcome, Settings)])

def pytest_unconfigure(config):
    reports = config.pluginmanager.get_plugin("terminalreporter").stats["preflight ok"]
    print("COUNTS", json.dumps([counts[1], counts[-1], len(counts), sum(len(one.smoke_outcomes) for one in reports)]))
"""
RECIPE = """\
task: line:Line
full: {batch_size: 8, learning_rate: 0.01, max_steps: 2000}
smoke: {max_steps: 100}
"""


def test_no_outcome_stays_alive_and_no_item_grows_by_its_run(
    pytester: pytest.Pytester, run_pytest: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(line="class Line: ...")
    pytester.makeconftest(COUNTS_OBJECTS)
    for number in range(12):
        (pytester.path / f"r{number}.smoke.yaml").write_text(RECIPE)
    result = run_pytest("--smoke", "--smoke-preflight", "--smoke-report", "out")
    result.assert_outcomes()
    result.stdout.fnmatch_lines(["*12 preflight ok*"])
    counted = next(line for line in result.outlines if line.startswith("COUNTS "))
    assert counted == "COUNTS [[0, 12], [0, 12], 12, 0]", "outcomes and settings alive, after 2 and after 12 runs"
