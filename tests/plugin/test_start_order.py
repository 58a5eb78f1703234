"""The order in which the workers of pytest-xdist start smoke runs, and what pytest remembers for it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.collect.start_order import CACHE, dealt, first_chunks
from tests.plugin.conftest import RECIPE, Project

CONFTEST = """
import os
def pytest_runtest_setup(item):
    with open(f"ran-{os.environ['PYTEST_XDIST_WORKER']}", "a") as file:
        file.write(item.name.partition("[")[0].replace("constant", item.path.name[0]) + "\\n")
"""


@given(st.integers(0, 30), st.integers(0, 10), st.sampled_from(["load", "loadgroup", "worksteal"]), st.integers(1, 6))
def test_each_worker_begins_with_one_of_the_longest_runs(runs: int, others: int, dist: str, workers: int) -> None:
    """Runs are numbered from the longest one, tests behind them; what pytest-xdist does not deal, it takes in order."""
    chunks = first_chunks(dist, runs + others, workers)
    order = dealt(range(runs), range(runs, runs + others), chunks)
    assert sorted(order) == list(range(runs + others))
    begins = [order[sum(chunks[:at])] for at, size in enumerate(chunks) if size]
    if dist == "worksteal" and runs + others >= workers:
        assert sum(chunks) == runs + others
    assert sorted(begins)[: min(runs, len(begins))] == list(range(min(runs, len(begins))))
    for at, size in enumerate(chunks):
        chunk = order[sum(chunks[:at]) : sum(chunks[:at]) + size]
        assert chunk == sorted(chunk), "a worker executes a shorter run before a longer one, or tests out of order"
    assert order[sum(chunks) :] == sorted(order[sum(chunks) :])


def ran(project: Project) -> list[str]:
    return sorted(path.read_text().replace("\n", "") for path in project.path.glob("ran-*"))


def test_the_longest_runs_of_earlier_sessions_start_first_each_in_a_worker_of_its_own(project: Project) -> None:
    """A run that is not known may be long. Tests follow in their order, and reports are sorted as ever."""
    (project.path / "conftest.py").write_text(CONFTEST)
    for name in "abcd":
        project.recipe(name)
    project.pytester.makepyfile(test_two="def test_1(): pass\ndef test_2(): pass\n")
    cache = project.path / ".pytest_cache" / "v" / CACHE
    cache.parent.mkdir(parents=True)
    seconds = {"a.smoke.yaml::constant": 1.0, "b.smoke.yaml::constant": 9.0, "c.smoke.yaml::constant": 2.0}
    cache.write_text(json.dumps(seconds))
    project.run("--smoke-preflight", "-n", "2", "--dist", "worksteal", "--smoke-report", "out")
    assert [executed[:2] for executed in ran(project)] == ["bc", "da"]  # tests may be stolen
    assert [outcome["id"][0] for outcome in project.verdicts()] == list("abcd")
    assert json.loads(cache.read_text()) == seconds, "a preflight is no run"


def test_seconds_of_runs_are_remembered_and_those_of_deleted_recipes_forgotten(project: Project) -> None:
    """What else is in the file, after a hand or another version edited it, is ignored."""
    cache = project.path / ".pytest_cache" / "v" / CACHE
    cache.parent.mkdir(parents=True)
    cache.write_text('{"gone.smoke.yaml::constant": 3.0, "good.smoke.yaml::long-tail": 4.0, "x": "1", "y": NaN}')
    project.recipe(base=RECIPE.replace("max_steps: 400", "max_steps: 60"))
    project.run("--smoke")
    stored = json.loads(cache.read_text())
    assert stored.pop("good.smoke.yaml::long-tail") == 4.0
    assert stored.pop("good.smoke.yaml::constant") > 0
    assert stored == {}
    cache.write_text("[1]")
    project.run("--smoke", "-p", "no:cacheprovider").assert_outcomes(passed=1)
    project.run("--smoke").assert_outcomes(passed=1)
    assert list(json.loads(cache.read_text())) == ["good.smoke.yaml::constant"]
