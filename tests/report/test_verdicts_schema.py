"""The JSON Schema of `verdicts.json`."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from math import nan
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pytest_smoke.judge.checks.check import Check, Reason
from pytest_smoke.judge.checks.registry import CHECKS, DEFAULT, Registry
from pytest_smoke.outcome import CheckpointFacts, Facts, Finding, GradientFacts, Outcome, StageFacts
from pytest_smoke.report.verdicts_json import verdicts_json
from pytest_smoke.report.verdicts_schema import OBJECTS, json_schema
from tests.report.test_terminal import outcome

TREND = Finding(id="loss-trend[A]", status="pass", text="no rise")
FULL = outcome(
    findings=(TREND, Finding(id="accept[a < [1]\n]", status="fail", text="a was 2", reason="criterion-failed")),
    facts=Facts(
        steps=3,
        recipe_text="task: a:A\n",
        loss_first=nan,
        last_values={"loss": nan, "lr": 0.1},
        stages=(StageFacts(name="A", first_step=0, steps=3, planned_steps=3, evidence_steps=3, full_steps=9),),
        gradient_norms=GradientFacts(step=1, raw={"ce": 1.0}, weighted={"ce": 1.0}, cosines={}),
        checkpoints=(CheckpointFacts(kind="trained", step=3, folder="checkpoints/a/trained"),),
    ),
)


def problems(of: Outcome, registry: Registry = DEFAULT) -> list[str]:
    tree = json.loads(verdicts_json([of]))
    return [error.json_path for error in Draft202012Validator(json_schema(registry)).iter_errors(tree)]


def with_finding(**values: Any) -> Outcome:
    return replace(FULL, findings=(replace(TREND, **values),))


def test_it_is_a_draft_2020_12_schema_in_plain_json() -> None:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema


def test_it_has_every_field_with_a_description() -> None:
    definitions = json_schema()["$defs"]
    assert {cls.__name__ for cls in OBJECTS} == definitions.keys() - {"Number"}
    for cls in OBJECTS:
        properties = definitions[cls.__name__]["properties"]
        shared = {"recipe_text": "recipe_text_sha256"} if cls is Facts else {}  # the file has the text once
        assert list(properties) == [shared.get(field.name, field.name) for field in fields(cls)]
        assert [name for name, value in properties.items() if not value["description"].endswith(".")] == []


def test_an_outcome_with_every_kind_of_facts_is_valid() -> None:
    assert problems(FULL) == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_every_reason_of_the_registry_is_valid(check: Check) -> None:
    for reason in check.reasons:
        assert problems(with_finding(id=check.id, status=reason.status, reason=reason.id)) == []


@pytest.mark.parametrize(
    "values",
    [
        {"id": "loss-trends"},
        {"id": "loss-trend[A"},
        {"id": "x-loss-trend"},
        {"reason": "no-such-reason"},
        {"status": "fail", "reason": ""},
        {"status": "warn", "reason": "rise"},
        {"status": "failed"},
        {"step": 1.5},
        {"text": None},
    ],
    ids=str,
)
def test_a_finding_that_no_check_can_make_is_not_valid(values: dict[str, Any]) -> None:
    assert problems(with_finding(**values)) != []


@pytest.mark.parametrize("change", [{"surprise": 1}, {"verdict": "fine"}, {"step": "3"}, {"facts": {"steps": "3"}}])
def test_an_unknown_key_or_a_wrong_type_is_not_valid(change: dict[str, Any]) -> None:
    tree = json.loads(verdicts_json([FULL]))
    tree["outcomes"][0] |= change
    assert not Draft202012Validator(json_schema()).is_valid(tree)


def test_a_check_of_a_plugin_is_in_the_schema_of_its_registry() -> None:
    reason = Reason(id="too-blue", status="fail", when="the plots are too blue")
    check = Check(id="colours", question="Are the plots legible?", when="end", verdict="hold", reasons=(reason,))
    found = with_finding(id="colours", status="fail", reason="too-blue")
    assert problems(found, Registry([check])) == []
    assert problems(with_finding(id="colours", status="not-checked", reason="check-raised"), Registry([check])) == []
    assert problems(found) != []
