"""`verdicts.json`."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.files import json_value
from pytest_smoke.outcome import Facts, Finding, Outcome
from pytest_smoke.recipe_texts import recipe_texts_of, restore_recipe_text, share_recipe_text
from pytest_smoke.report.verdicts_json import verdicts_json
from tests.report.test_terminal import outcome

FLOATS = st.floats(allow_nan=True, allow_infinity=True)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FLOATS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(("facts", "recipe_text", "recipe_text_sha256", ""))
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


@given(st.lists(st.none() | st.text(max_size=3), max_size=4))
def test_each_recipe_text_is_in_the_file_once_and_every_outcome_gets_its_own_back(recipes: list[str | None]) -> None:
    written = [outcome(id=f"{at:02}", facts=Facts(recipe_text=text)) for at, text in enumerate(recipes)]
    tree = json.loads(verdicts_json(written))
    texts = recipe_texts_of(tree)
    assert sorted(texts.values()) == sorted({text for text in recipes if text is not None})
    assert all("recipe_text" not in one["facts"] for one in tree["outcomes"])
    assert [Outcome.from_dict(restore_recipe_text(one, texts)) for one in tree["outcomes"]] == written


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(KEYS, inner) | st.lists(inner))
)
def test_a_damaged_file_is_left_as_it_is(damaged: Any) -> None:
    texts = recipe_texts_of({"recipe_texts": damaged})
    assert texts == {}
    assert restore_recipe_text(damaged, texts) is damaged


def test_a_text_that_was_changed_by_hand_is_not_taken_for_the_recipe() -> None:
    tree = json.loads(verdicts_json([outcome(facts=Facts(recipe_text="task: a:A\n"))]).replace("a:A", "b:B"))
    assert recipe_texts_of(tree) == {}


def test_an_outcome_of_an_earlier_version_has_its_text_and_is_written_in_the_new_form() -> None:
    old = outcome(facts=Facts(recipe_text="task: a:A\n")).to_dict()
    assert restore_recipe_text(old, recipe_texts_of({})) is old
    texts: dict[str, str] = {}
    assert list(share_recipe_text(old, texts)["facts"]) == ["recipe_text_sha256"]
    assert list(texts.values()) == ["task: a:A\n"]
