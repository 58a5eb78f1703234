"""Outcomes, findings and facts as trees of builtins, and as JSON."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.files import strict_json
from pytest_smoke.outcome import (
    VERDICTS,
    CheckpointFacts,
    Facts,
    Finding,
    GradientFacts,
    Outcome,
    StageFacts,
    Status,
    VerdictWord,
)

TEXT = st.text(max_size=6)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
ANY_NUMBERS = st.floats()
INTEGERS = st.integers(-(2**53), 2**53)


def trees(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    """Draw values that JSON can hold."""
    return st.recursive(
        st.none() | st.booleans() | INTEGERS | numbers | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=6,
    )


def known(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def names(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(TEXT, strategy, max_size=2)


def outcomes(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[Outcome]:
    """Draw outcomes with every field of facts known or not."""
    mapping = names(trees(numbers))
    by_type = {
        "int | None": known(INTEGERS),
        "float | None": known(numbers),
        "str | None": known(TEXT),
        "Mapping[str, Any]": mapping,
        "Mapping[str, Any] | None": known(st.dictionaries(TEXT, trees(numbers), min_size=1, max_size=2)),
        "Mapping[str, str]": names(TEXT),
        "Mapping[str, float]": names(numbers),
        "tuple[str, ...]": st.lists(TEXT, max_size=2).map(tuple),
        "tuple[int, ...]": st.lists(INTEGERS, max_size=2).map(tuple),
        "tuple[StageFacts, ...]": st.lists(stages(numbers), max_size=2).map(tuple),
        "tuple[CheckpointFacts, ...]": st.lists(
            st.builds(CheckpointFacts, kind=TEXT, step=INTEGERS, folder=TEXT), max_size=2
        ).map(tuple),
        "GradientFacts | None": known(
            st.builds(GradientFacts, step=INTEGERS, raw=names(numbers), weighted=names(numbers), cosines=names(numbers))
        ),
    }
    facts = st.builds(Facts, **{one.name: by_type[str(one.type)] for one in fields(Facts)})
    findings = st.builds(
        Finding,
        id=TEXT,
        status=st.sampled_from(get_args(Status)),
        text=TEXT,
        reason=TEXT,
        step=known(INTEGERS),
        observed=trees(numbers),
        bound=trees(numbers),
        hint=TEXT,
        key=TEXT,
        place=TEXT,
        data=mapping,
    )
    return st.builds(
        Outcome,
        id=TEXT,
        recipe=TEXT,
        mode=TEXT,
        cell=known(TEXT),
        verdict=st.sampled_from(VERDICTS),
        reason=TEXT,
        step=known(INTEGERS),
        text=TEXT,
        decided_by=TEXT,
        findings=st.lists(findings, max_size=3).map(tuple),
        facts=facts,
        curve=st.fixed_dictionaries({"step": st.lists(INTEGERS, max_size=3), "loss": st.lists(numbers, max_size=3)}),
        metrics=names(st.lists(st.tuples(INTEGERS, numbers).map(list), max_size=2)),
        output=TEXT,
    )


def stages(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[StageFacts]:
    return st.builds(
        StageFacts,
        name=TEXT,
        first_step=INTEGERS,
        steps=INTEGERS,
        planned_steps=INTEGERS,
        evidence_steps=INTEGERS,
        full_steps=INTEGERS,
        phases=st.lists(st.tuples(TEXT, INTEGERS), max_size=2).map(tuple),
        settings=names(trees(numbers)),
        loss_verdict=known(TEXT),
        criteria=known(st.sampled_from(get_args(Status))),
        loss_first=known(numbers),
        loss_last=known(numbers),
        train_seconds=known(numbers),
        samples_per_second=known(numbers),
    )


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


@given(outcomes(ANY_NUMBERS))
def test_an_outcome_round_trips_through_builtins(outcome: Outcome) -> None:
    """It is sent from pytest-xdist's workers in this form. Compared by repr, because NaN is not equal to itself."""
    assert repr(Outcome.from_dict(outcome.to_dict())) == repr(outcome)


@given(outcomes(NUMBERS))
def test_an_outcome_with_finite_numbers_round_trips_through_json(outcome: Outcome) -> None:
    assert Outcome.from_dict(json.loads(strict_json(outcome.to_dict()), parse_constant=refuse)) == outcome


@given(outcomes(ANY_NUMBERS))
def test_non_finite_numbers_stay_the_texts_of_the_first_json(outcome: Outcome) -> None:
    first = strict_json(outcome.to_dict())
    read = Outcome.from_dict(json.loads(first, parse_constant=refuse))
    assert strict_json(read.to_dict()) == first


@given(outcomes(NUMBERS))
def test_facts_leave_out_what_is_not_known_and_keep_zeros(outcome: Outcome) -> None:
    facts, tree = outcome.facts, outcome.facts.to_dict()
    empty = {one.name for one in fields(Facts) if getattr(facts, one.name) in (None, (), {})}
    assert tree.keys() == {one.name for one in fields(Facts)} - empty
    for stage in tree.get("stages", []):
        assert None not in stage.values()


def test_facts_of_zero_are_known() -> None:
    assert Facts(steps=0, loss_last=0.0, seed=0).to_dict() == {"seed": 0, "steps": 0, "loss_last": 0.0}
    assert Facts().to_dict() == {}


def test_facts_of_another_version_with_further_keys_can_be_read() -> None:
    assert Facts.from_dict({"steps": 3, "added_later": 1}) == Facts(steps=3)


@pytest.mark.parametrize(
    ("finding_id", "check", "subject"),
    [
        ("loss-trend", "loss-trend", ""),
        ("loss-trend[A]", "loss-trend", "A"),
        ("accept[max(a[0]) < 1]", "accept", "max(a[0]) < 1"),
    ],
)
def test_a_finding_knows_its_check_and_its_subject(finding_id: str, check: str, subject: str) -> None:
    finding = Finding(id=finding_id, status="pass", text="")
    assert (finding.check, finding.subject) == (check, subject)


def outcome_of(verdict: VerdictWord, reason: str = "", **changes: Any) -> Outcome:
    values = {"id": "a::constant", "recipe": "a", "mode": "constant", "cell": None, "step": None, "text": ""}
    return Outcome(**{**values, "verdict": verdict, "reason": reason, "decided_by": "", "findings": (), **changes})


def test_the_deciding_finding_is_found_by_its_id_alone() -> None:
    same_text = [Finding(id=id_, status="fail", text="a value is NaN") for id_ in ("finite", "accept[a < 1]")]
    outcome = outcome_of("hold", decided_by="accept[a < 1]", findings=tuple(same_text), text="a value is NaN")
    assert outcome.deciding is same_text[1]
    assert outcome_of("inconclusive").deciding is None


@pytest.mark.parametrize(
    ("verdict", "reason", "completed"),
    [
        ("inconclusive", "wiring", "wiring"),
        ("inconclusive", "preflight", "preflight"),
        ("inconclusive", "too-short", ""),
        ("promote", "", ""),
        ("hold", "wiring", ""),
    ],
)
def test_a_run_that_did_all_it_was_asked_is_completed(verdict: VerdictWord, reason: str, completed: str) -> None:
    outcome = outcome_of(verdict, reason)
    assert outcome.completed == completed
    assert outcome.promoted == (verdict == "promote")
