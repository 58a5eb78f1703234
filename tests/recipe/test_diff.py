"""The differences between two recipes, and the recipes in between."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.judge.checks.batch_geometry import batch_geometry
from pytest_smoke.judge.checks.settings import settings
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.diff import ABSENT, between, differences, unseen
from pytest_smoke.recipe.model import Mode, Recipe
from pytest_smoke.train.plan import RunPlan

FULL: dict[str, Any] = {"batch_size": 16, "grad_accum_steps": 8, "learning_rate": 5e-4, "max_steps": 50_000}


def case(
    *,
    full: dict[str, Any] | None = None,
    args: dict[str, Any] | None = None,
    smoke: dict[str, Any] | None = None,
    mode: Mode = "constant",
    **sections: Any,
) -> Case:
    data = {"task": "a:B", "args": args or {}, "full": {**FULL, **(full or {})}, "smoke": {"max_steps": 2500}}
    data["smoke"] = {"max_steps": 2500, **(smoke or {})}
    return Case(path="a.smoke.yaml", recipe=Recipe.model_validate({**data, **sections}), mode=mode)


SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "grad_clip_norm": st.none() | st.sampled_from((0.5, 1.0)),
        "warmup_steps": st.sampled_from((0, 10)),
        "precision": st.sampled_from(("fp32", "bf16")),
        "loss_weights": st.dictionaries(st.sampled_from("pq"), st.sampled_from((0.1, 1.0))),
        "max_steps": st.sampled_from((50_000, 60_000)),
        "batch_size": st.sampled_from((16, 32)),
    },
)
ARGS = st.recursive(
    st.none() | st.booleans() | st.integers(0, 1) | st.sampled_from((0.0, 1.0, "1")) | st.lists(st.integers(0, 1)),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=5,
)
CASES = st.builds(
    case,
    full=SETTINGS,
    args=st.dictionaries(st.sampled_from("ab"), ARGS),
    smoke=st.fixed_dictionaries({}, optional={"seed": st.integers(0, 1), "max_steps": st.sampled_from((2500, 3000))}),
    mode=st.sampled_from(("constant", "long-tail")),
)


OF_THE_FULL_RUN = ("full_learning_rate", "full_warmup_steps", "full_steps")
"""Fields of a stage that training does not read."""


def plan(case: Case) -> str:
    """Return the plan of the training process as text, because 1, 1.0 and true are different to a task."""
    made = RunPlan.of(case, root="", device="cpu")
    stages = [
        {key: value for key, value in asdict(stage).items() if key not in OF_THE_FULL_RUN} for stage in made.stages
    ]
    return repr(_sorted({**{name: getattr(made, name) for name in made.__slots__}, "stages": stages}))


def _sorted(value: Any) -> Any:
    if isinstance(value, list):
        return [_sorted(element) for element in value]
    return {key: _sorted(value[key]) for key in sorted(value)} if isinstance(value, dict) else value


@given(CASES, CASES)
def test_no_difference_gives_the_stable_recipe_and_all_give_the_unstable_one(good: Case, bad: Case) -> None:
    """The training process gets the same plan as from the recipes themselves."""
    found = differences(good, bad)
    assert plan(between(good, bad, [])) == plan(good)
    assert plan(between(good, bad, found)) == plan(bad)
    assert bool(found) == (plan(good) != plan(bad) or good.mode != bad.mode)


@given(CASES, CASES, st.data())
def test_a_recipe_in_between_has_just_the_chosen_settings_in_both_runs(
    good: Case, bad: Case, data: st.DataObject
) -> None:
    found = differences(good, bad)
    chosen = data.draw(st.lists(st.sampled_from(found), unique_by=lambda one: one.key)) if found else []
    middle = between(good, bad, chosen)
    findings = [*batch_geometry(middle), *settings(middle)]
    assert {finding.id: finding.status for finding in findings} == {"batch-geometry": "pass", "settings": "pass"}
    assert {one.key for one in differences(middle, bad)} == {one.key for one in found} - {one.key for one in chosen}
    assert {one.key for one in differences(good, middle)} == {one.key for one in chosen}


def test_differences_have_dotted_keys_and_both_values_the_most_suspicious_first() -> None:
    good = case(args={"net": {"depth": 2, "width": [8, 8]}, "p": True}, full={"grad_clip_norm": 1.0})
    bad = case(
        args={"net": {"depth": 4, "width": [8, 9]}, "p": 1, "q": "x"},
        full={"learning_rate": 1e-3, "loss_weights": {"crf": 2.0}},
        smoke={"seed": 3},
    )
    assert [str(one) for one in differences(good, bad)] == [
        "full.learning_rate: 0.0005 -> 0.001",
        "full.grad_clip_norm: 1 -> null",
        "full.loss_weights.crf: not set -> 2",
        "args.net.depth: 2 -> 4",
        "args.net.width: [8, 8] -> [8, 9]",
        "args.p: true -> 1",
        "args.q: not set -> 'x'",
        "smoke.seed: 0 -> 3",
    ]
    assert differences(good, bad)[2].good is ABSENT


def test_settings_without_effect_on_the_smoke_run_are_not_differences() -> None:
    bad = case(full={"max_steps": 9_000, "lr_schedule": "linear"}, checks={"accept": ["a < 1"]})
    assert differences(case(), bad) == []
    assert unseen(case(), bad) == ["full.max_steps", "full.lr_schedule"]
    assert between(case(), bad, []).recipe.checks == bad.recipe.checks


def test_a_value_that_smoke_repeats_is_not_a_difference() -> None:
    assert differences(case(), case(smoke={"batch_size": 16, "learning_rate": 5e-4})) == []


def test_a_batch_that_is_split_differently_changes_with_the_full_runs() -> None:
    """One factor alone changes the effective batch, both together give the other recipe."""
    good = case(smoke={"batch_size": 8, "grad_accum_steps": 16})
    bad = case(full={"batch_size": 32}, smoke={"batch_size": 8, "grad_accum_steps": 32})
    first, second = differences(good, bad)
    assert (first.key, second.key) == ("full.batch_size", "full.grad_accum_steps")
    for alone in (first, second):
        (finding,) = batch_geometry(between(good, bad, [alone]))
        assert finding.reason == "different-effective-batch"
    assert plan(between(good, bad, [first, second])) == plan(bad)


def test_an_invalid_recipe_in_between_raises_with_the_reason() -> None:
    good, bad = case(smoke={"max_steps": 3000, "run_steps": 2900}), case()
    (shorter,) = [one for one in differences(good, bad) if one.key == "smoke.max_steps"]
    with pytest.raises(ValueError, match=r"2900 is more than smoke\.max_steps, which is 2500"):
        between(good, bad, [shorter])
