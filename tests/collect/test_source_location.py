"""The user's own file and line behind a verdict, from the finding that decided."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_smoke.collect.source_location import place_of_key, source_location
from pytest_smoke.outcome import Finding, Outcome
from pytest_smoke.recipe.case import Case
from tests.judge.checks.cases import case

PLACES = {
    "task": "lm.smoke.yaml:1",
    "full": "lm.smoke.yaml:2",
    "full.learning_rate": "base.smoke.yaml:9",
    "stages[0]": "lm.smoke.yaml:12",
    "stages[0].train": "lm.smoke.yaml:15",
}
CASE: Case = replace(case(), path="lm.smoke.yaml", places=PLACES)


def outcome(*findings: Finding, decided_by: str = "") -> Outcome:
    return Outcome(
        id="lm.smoke.yaml::constant",
        recipe="lm.smoke.yaml",
        mode="constant",
        cell=None,
        verdict="hold",
        reason="r",
        step=None,
        text="the same sentence",
        decided_by=decided_by,
        findings=findings,
    )


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
    assert place_of_key(key, CASE) == place


def test_the_deciding_finding_gives_the_location_even_if_another_has_the_same_sentence() -> None:
    first = Finding(id="accept[a < 1]", status="fail", text="the same sentence", key="task")
    second = Finding(id="loss-trend", status="fail", text="the same sentence", key="full.learning_rate")
    assert source_location(outcome(first, second, decided_by="loss-trend"), CASE) == "base.smoke.yaml:9"
    assert source_location(outcome(first, second, decided_by="accept[a < 1]"), CASE) == "lm.smoke.yaml:1"


def test_a_place_in_code_comes_before_the_recipe() -> None:
    finding = Finding(id="run", status="fail", text="", key="task", place="tasks.py:31")
    assert source_location(outcome(finding, decided_by="run"), CASE) == "tasks.py:31"


def test_without_a_deciding_finding_the_location_is_the_recipe() -> None:
    assert source_location(outcome(), CASE) == "lm.smoke.yaml:1"
