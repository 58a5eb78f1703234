"""The fixture `smoke` takes a task class, a factory or a task object, with settings in Python."""

from __future__ import annotations

from tests.plugin.conftest import Project

TESTS = '''
import functools

import pytest
import tasks
from pytest_smoke import RecipeError, TaskError

FULL = {"batch_size": 64, "learning_rate": 3.0e-3, "warmup_steps": 20, "max_steps": 20000}


class Mine(tasks.Teacher):
    """A task in the test's own module, with a setting."""

    def __init__(self, width=4):
        super().__init__()
        self.width = width


def make(width):
    return Mine(width)


@pytest.mark.parametrize(("rate", "verdict"), [(3e-3, "promote"), (30.0, "unstable")])
def test_rates(smoke, rate, verdict):
    outcome = smoke(tasks.Teacher, full={**FULL, "learning_rate": rate}, mode="constant", steps=300)
    assert (outcome.verdict, outcome.mode, outcome.facts.planned_steps) == (verdict, "constant", 300)


@pytest.mark.parametrize("task", [Mine(8), functools.partial(make, width=8), functools.partial(make, 8)])
def test_objects_and_partials(smoke, task):
    assert smoke(task, full=FULL, mode="wiring", steps=20).completed == "wiring"


def test_factory_with_args(smoke):
    assert smoke(make, args={"width": 2}, full=FULL, mode="wiring", steps=20).completed == "wiring"


def test_fails(smoke):
    assert smoke(Mine(), full={**FULL, "learning_rate": 30.0}, steps=300).promoted


def test_unfair(smoke):
    outcome = smoke(Mine, full=FULL, steps=300, smoke={"batch_size": 32})
    assert (outcome.verdict, outcome.finding("batch-geometry").status) == ("invalid", "fail")


def test_mistakes(smoke):
    class Local(tasks.Teacher):
        pass

    def says(*args, error=TaskError, **given):
        with pytest.raises(error) as raised:
            smoke(*args, **{"full": FULL, "steps": 20, **given})
        assert error is ValueError or len(raised.traceback) == 2  # the call and the fixture
        return str(raised.value)

    for local in (Local, Local(), lambda: Mine(8)):
        text = says(local)
        assert "cannot be sent to the training process" in text
        assert "at the top level of a module" in text
        assert len(text.splitlines()) == 1
    assert says(3) == "an object of type int is not a task: it lacks model(), batches(), losses()"
    assert "it is a task already" in says(Mine(8), args={"width": 8})
    assert "has no argument widht; did you mean width?" in says(make, args={"widht": 8}, error=RecipeError)
    text = says(Mine, full={"batch_size": 64, "learning_rate": 0.1}, error=RecipeError)
    assert text.startswith("test_mine.py:") and ":1: key full.max_steps is missing" in text
    assert "chekcs" in says(Mine, chekcs={}, error=RecipeError)
    assert "val >" in says(Mine, checks={"accept": ["val >"]}, error=RecipeError)
    assert says("good.smoke.yaml", error=ValueError) == "good.smoke.yaml has its own settings: remove full=, steps="
    assert "chooses a cell of a recipe" in says(Mine, cell="a", error=ValueError)
'''


def test_a_task_object_or_factory_is_smoked_with_settings_in_python(project: Project) -> None:
    project.pytester.makepyfile(test_mine=TESTS)
    result = project.run("--smoke", "test_mine.py", "--smoke-report", "out", "-vv")
    result.assert_outcomes(passed=8, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*Captured smoke Mine call*",
            "unstable (*",
            "*loss *",
            "*rerun: pytest --smoke * test_mine.py::test_fails",
        ]
    )
    lines = (project.path / "test_mine.py").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "assert smoke(Mine()" in text)
    assert f"  test_mine.py:{line}" in result.outlines
    outcomes = {outcome["id"].partition("::")[2]: outcome for outcome in project.verdicts()}
    assert outcomes["test_rates[0.003-promote]#0"]["verdict"] == "promote"
    assert outcomes["test_rates[30.0-unstable]#0"]["verdict"] == "unstable"
    assert {outcome["recipe"] for outcome in outcomes.values()} == {"test_mine.py"}
