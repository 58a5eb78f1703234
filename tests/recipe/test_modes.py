"""Which mode a recipe runs in."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Change, LrSchedule, Mode, Recipe, Smoke
from pytest_smoke.recipe.modes import MODE_OF_CHANGE, SCHEDULE_OF_MODE, modes_of

# Row by row: the situation as the framework words it, and the mode it picks.
WHICH_TO_PICK = [
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


@pytest.mark.parametrize(("situation", "change", "mode"), WHICH_TO_PICK, ids=[row[0] for row in WHICH_TO_PICK])
def test_the_change_picks_the_mode(situation: str, change: Change | None, mode: Mode) -> None:
    """Only a tweak whose cosine matters earns a tail; only a wiring check is no verdict."""
    assert modes_of(smoke(change=change)) == [mode]


def test_every_change_has_its_row() -> None:
    """No change a recipe can name is left without a mode."""
    assert {change for _, change, _ in WHICH_TO_PICK} == set(MODE_OF_CHANGE) == {*get_args(Change), None}
    assert set(SCHEDULE_OF_MODE) == set(get_args(Mode))


def test_a_named_mode_overrules_the_change() -> None:
    """`mode` is the recipe's last word."""
    assert modes_of(smoke(change="new-loss", mode="long-tail")) == ["long-tail"]


def test_several_modes_run_once_each_in_order() -> None:
    """One item per mode."""
    assert modes_of(smoke(mode=["long-tail", "constant", "long-tail"])) == ["long-tail", "constant"]


@pytest.mark.parametrize("keys", [{}, {"change": "integration"}, {"mode": "long-tail"}, {"mode": ["wiring"]}])
def test_the_command_line_overrules_both(keys: dict[str, Any]) -> None:
    """`--smoke-mode` is for the one run."""
    assert modes_of(smoke(**keys), "constant") == ["constant"]


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("lr_schedule", get_args(LrSchedule))
def test_no_mode_touches_the_full_runs_schedule(lr_schedule: LrSchedule, mode: Mode) -> None:
    """The smoke's is the mode's; the full run keeps the one it declares, and its length."""
    full = {"batch_size": 1, "learning_rate": 0.1, "max_steps": 50_000, "lr_schedule": lr_schedule}
    recipe = Recipe.model_validate({"task": "a:B", "full": full, "smoke": {"max_steps": 2500}})
    (chosen,) = modes_of(recipe.smoke, mode)
    one = Case(path="a", recipe=recipe, mode=chosen)
    assert (one.full.lr_schedule, one.full.max_steps) == (lr_schedule, 50_000)
    assert one.settings.lr_schedule == SCHEDULE_OF_MODE[mode]
