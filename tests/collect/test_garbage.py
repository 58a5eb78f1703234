"""How often Python collects garbage in a session of preflights."""

from __future__ import annotations

import gc

from tests.plugin.conftest import Project


def test_a_session_of_preflights_makes_no_full_collection_before_its_end(project: Project) -> None:
    """And the next session in this process finds Python's thresholds as they were."""
    before = gc.get_threshold()
    project.recipe()
    collections = project.path / "collections"
    (project.path / "conftest.py").write_text(
        f"import gc\ncollections = open({str(collections)!r}, 'w')\n"
        "def note(phase, info):\n"
        "    if phase == 'start' and info['generation'] == 2:\n"
        "        collections.write('full\\n')\n"
        "def pytest_collection():\n"
        "    gc.callbacks.append(note)\n"
        "def pytest_sessionfinish():\n"
        "    gc.callbacks.remove(note)\n"
        "    collections.close()\n"
        "def pytest_collection_finish():\n"
        "    kept = [[] for _ in range(1_000_000)]\n"
    )
    project.pytester.inline_run("--smoke-preflight", "-p", "no:cacheprovider")
    assert collections.read_text() == ""
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


LEAVES_A_CYCLE = """
import gc

class Raises:
    def __init__(self):
        self.me = self
    def __del__(self):
        raise ValueError("from a finalizer")

def test_that_leaves_a_cycle():
    gc.disable()
    Raises()
"""


def test_a_test_among_preflights_is_still_blamed_for_a_finalizer_that_raises(project: Project) -> None:
    """pytest finds it by a full collection at its end, as Hypothesis does at times."""
    project.recipe()
    (project.path / "test_cycle.py").write_text(LEAVES_A_CYCLE)
    options = ("-p", "no:hypothesispytest", "-W", "error::pytest.PytestUnraisableExceptionWarning")
    result = project.pytester.runpytest_subprocess("--smoke-preflight", *options)  # forks of the suite are frozen
    assert "PytestUnraisableExceptionWarning" in result.stderr.str()
