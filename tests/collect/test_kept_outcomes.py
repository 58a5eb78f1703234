"""The outcomes of a session, packed until its reports need them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.collect.kept_outcomes import KeptOutcomes
from pytest_smoke.outcome import Facts, Finding
from pytest_smoke.report.verdicts_json import tree_json, verdicts_json, verdicts_parts
from tests.report.test_terminal import outcome
from tests.report.test_verdicts_json import FINDINGS, TREE


@given(st.lists(FINDINGS, max_size=3), TREE)
def test_an_outcome_is_unpacked_as_it_was_packed(findings: list[Finding], settings: dict[str, Any]) -> None:
    """Compared by repr, because NaN is not equal to itself."""
    kept, one = KeptOutcomes(), outcome(findings=tuple(findings), facts=Facts(settings=settings))
    kept.add(one)
    assert list(map(_all_of, kept.all())) == [_all_of(one)]
    assert list(kept.texts()) == [tree_json(one.to_dict())]


def test_outcomes_stay_in_the_order_of_arrival_and_their_texts_are_sorted_by_id() -> None:
    kept = KeptOutcomes()
    for item_id in "bca":
        kept.add(outcome(id=item_id))
        assert kept.all()[-1].id == item_id
    assert [one.id for one in kept.all()] == ["b", "c", "a"]
    assert [json.loads(text)["id"] for text in kept.texts()] == ["a", "b", "c"]
    assert (len(kept), "b" in kept, "d" in kept) == (3, True, False)


def test_the_text_of_a_recipe_is_kept_and_written_once_for_all_of_its_cells() -> None:
    kept = KeptOutcomes()
    cells = [outcome(id=f"a[{cell}]", facts=Facts(recipe_text="task: a:A\n")) for cell in "abc"]
    for one in (*cells, outcome(id="b", facts=Facts(recipe_text="task: b:B\n"))):
        kept.add(one)
    texts = [one.facts.recipe_text for one in kept.all()]
    assert texts == ["task: a:A\n"] * 3 + ["task: b:B\n"]
    assert len({id(text) for text in texts}) == 2
    assert "".join(verdicts_parts(kept.texts(), kept.recipe_texts)) == verdicts_json(kept.all())


def test_outcomes_that_are_compressed_together_come_apart_again() -> None:
    kept, texts = KeptOutcomes(), {f"{number:02}": f"{number} of twenty\0" + "x" * 40_000 for number in range(20)}
    for item_id in reversed(texts):
        kept.add(outcome(id=item_id, text=texts[item_id]))
    assert {one.id: one.text for one in kept.all()} == texts
    assert [json.loads(text)["text"] for text in kept.texts()] == [*texts.values()]


def _all_of(one: Any) -> str:
    return repr(one.to_dict())
