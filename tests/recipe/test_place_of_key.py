"""The line of a recipe that a key, a finding and an outcome are about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from tests.judge.checks.cases import case
from tests.report.test_terminal import outcome

PLACES = {
    "task": "lm.smoke.yaml:1",
    "full": "lm.smoke.yaml:2",
    "full.learning_rate": "base.smoke.yaml:9",
    "stages[0]": "lm.smoke.yaml:12",
    "stages[0].train": "lm.smoke.yaml:15",
}
CASE: Case = replace(case(), path="lm.smoke.yaml", places=PLACES)


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("full.learning_rate", "base.smoke.yaml:9"),
        ("full.warmup_steps", "lm.smoke.yaml:2"),
        ("stages[0].train[1]", "lm.smoke.yaml:15"),
        ("stages[0].accept[0]", "lm.smoke.yaml:12"),
        ("stages[3].train", "lm.smoke.yaml:1"),
        ("mix", "lm.smoke.yaml:1"),
        ("", "lm.smoke.yaml:1"),
    ],
)
def test_a_key_is_located_at_the_nearest_key_above_it_that_the_file_has(key: str, place: str) -> None:
    assert CASE.place_of(key) == place


def finding(finding_id: str, key: str, **more: Any) -> Finding:
    values = {"status": "fail", "text": "the same sentence", "key": key, "key_place": CASE.place_of(key)}
    return Finding(id=finding_id, **{**values, **more})


def test_the_deciding_finding_gives_the_place_even_if_another_has_the_same_sentence() -> None:
    findings = (finding("accept[a < 1]", "task"), finding("loss-trend", "full.learning_rate"))
    decided = outcome(recipe="lm.smoke.yaml", findings=findings, decided_by="loss-trend")
    assert decided.place == "base.smoke.yaml:9"
    assert replace(decided, decided_by="accept[a < 1]").place == "lm.smoke.yaml:1"


def test_a_place_in_code_comes_before_the_recipe() -> None:
    crashed = finding("run", "task", place="tasks.py:31")
    assert outcome(findings=(crashed,), decided_by="run").place == "tasks.py:31"


def test_without_a_deciding_finding_the_place_is_the_recipe() -> None:
    assert outcome(recipe="lm.smoke.yaml").place == "lm.smoke.yaml:1"


@pytest.mark.parametrize(
    ("item_id", "cell", "of_test"),
    [
        ("a.smoke.yaml::constant", None, False),
        ("../a.smoke.yaml::constant#2", None, False),
        ("a.smoke.yaml::constant[wide]", "wide", False),
        ("test_a.py::test_b#0", None, True),
        ("test_a.py::TestB::test_c[constant]#1", None, True),
    ],
)
def test_an_outcome_knows_whether_a_test_executed_it(item_id: str, cell: str | None, of_test: bool) -> None:
    assert outcome(id=item_id, cell=cell).of_test is of_test
