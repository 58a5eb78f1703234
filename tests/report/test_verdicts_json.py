"""`verdicts.json`."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.files import json_value
from pytest_smoke.outcome import Facts, Finding, Outcome
from pytest_smoke.report.verdicts_json import verdicts_json
from tests.report.test_terminal import outcome

FLOATS = st.floats(allow_nan=True, allow_infinity=True)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FLOATS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
TREE = st.dictionaries(st.text(max_size=5), PLAIN, max_size=3)
FINDINGS = st.builds(
    Finding,
    id=st.text(min_size=1, max_size=8),
    status=st.sampled_from(("pass", "warn", "fail", "not-checked")),
    text=st.text(max_size=20),
    observed=PLAIN,
    data=st.dictionaries(st.text(max_size=5), PLAIN, max_size=2),
)


@given(st.lists(FINDINGS, max_size=3), TREE)
def test_an_outcome_survives_to_dict_and_from_dict(findings: list[Finding], settings: dict[str, Any]) -> None:
    """Compared by repr, because NaN is not equal to itself."""
    original = outcome(findings=tuple(findings), facts=Facts(settings=settings))
    assert repr(Outcome.from_dict(original.to_dict())) == repr(original)


@given(TREE)
def test_verdicts_json_is_strict_json_for_every_value(settings: dict[str, Any]) -> None:
    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    one = outcome(facts=Facts(settings=settings))
    tree = json.loads(verdicts_json([one]), parse_constant=refuse)
    assert tree["schema"] == 1
    assert tree["outcomes"] == [json_value(one.to_dict())]


def test_outcomes_are_sorted_by_id() -> None:
    text = verdicts_json([outcome(id="b"), outcome(id="a")])
    assert [o["id"] for o in json.loads(text)["outcomes"]] == ["a", "b"]
