"""The mode that a recipe is run in."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Change, LrSchedule, Mode, Recipe, Smoke
from pytest_smoke.recipe.modes import MODE_OF_CHANGE, SCHEDULE_OF_MODE, modes_of

# Situation, `smoke.change`, and the mode that it selects.
EXPECTED_MODES = [
    ("New recipe", "new-recipe", "constant"),
    ("New recipe (new loss)", "new-loss", "constant"),
    ("New recipe (new normalization)", "new-normalization", "constant"),
    ("New recipe (new tokenizer)", "new-tokenizer", "constant"),
    ("New recipe (new class weights)", "new-class-weights", "constant"),
    ("First time exercising a knob at a new LR", "new-learning-rate", "constant"),
    ("Tweak on a known-stable baseline, cosine dynamics matter", "tweak-cosine-matters", "long-tail"),
    ("Tweak on a known-stable baseline, else", "tweak", "constant"),
    ("Pre-flight integration check, not a verdict", "integration", "wiring"),
    ("Reproducing a known divergence to characterize it", "reproduce-divergence", "constant"),
    ("When in doubt", None, "constant"),
]


def smoke(**keys: Any) -> Smoke:
    return Smoke(max_steps=2500, **keys)


@pytest.mark.parametrize(("situation", "change", "mode"), EXPECTED_MODES, ids=[row[0] for row in EXPECTED_MODES])
def test_the_change_selects_the_mode(situation: str, change: Change | None, mode: Mode) -> None:
    assert modes_of(smoke(change=change)) == [mode]


def test_every_change_and_every_mode_has_an_entry() -> None:
    assert {change for _, change, _ in EXPECTED_MODES} == set(MODE_OF_CHANGE) == {*get_args(Change), None}
    assert set(SCHEDULE_OF_MODE) == set(get_args(Mode))


def test_a_mode_in_the_recipe_overrides_the_change() -> None:
    assert modes_of(smoke(change="new-loss", mode="long-tail")) == ["long-tail"]


def test_several_modes_run_once_each_in_order() -> None:
    assert modes_of(smoke(mode=["long-tail", "constant", "long-tail"])) == ["long-tail", "constant"]


@pytest.mark.parametrize("keys", [{}, {"change": "integration"}, {"mode": "long-tail"}, {"mode": ["wiring"]}])
def test_the_command_line_overrides_the_recipe(keys: dict[str, Any]) -> None:
    assert modes_of(smoke(**keys), "constant") == ["constant"]


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("lr_schedule", get_args(LrSchedule))
def test_no_mode_changes_the_full_runs_schedule_or_length(lr_schedule: LrSchedule, mode: Mode) -> None:
    full = {"batch_size": 1, "learning_rate": 0.1, "max_steps": 50_000, "lr_schedule": lr_schedule}
    recipe = Recipe.model_validate({"task": "a:B", "full": full, "smoke": {"max_steps": 2500}})
    (chosen,) = modes_of(recipe.smoke, mode)
    case = Case(path="a", recipe=recipe, mode=chosen)
    assert (case.full.lr_schedule, case.full.max_steps) == (lr_schedule, 50_000)
    assert case.settings.lr_schedule == SCHEDULE_OF_MODE[mode]
