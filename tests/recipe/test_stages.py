"""Stages on the steps of a smoke: where they lie, what each inherits, and every way their lengths can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.criteria import parse
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.load import load_cases
from pytest_smoke.recipe.model import Mode, Recipe
from pytest_smoke.recipe.windows import windows_of

Faults = Callable[..., list[str]]

FULL = {"batch_size": 24, "learning_rate": 5e-4, "warmup_steps": 20, "loss_weights": {"tf": 1.0}, "from_scratch": True}
HEAD = "task: a_task:Task\nfull: {batch_size: 24, learning_rate: 5.0e-4}\nsmoke: {}\nstages:\n"


def case(*stages: dict[str, Any], mode: Mode = "constant", full: dict[str, Any] | None = None, **smoke: Any) -> Case:
    data = {"task": "a:B", "full": {**FULL, **(full or {})}, "smoke": smoke, "stages": list(stages)}
    return Case(path="a.smoke.yaml", recipe=Recipe.model_validate(data), mode=mode)


@st.composite
def layouts(draw: st.DrawFn) -> list[list[int]]:
    """Steps of each phase of each stage."""
    return draw(st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=4), min_size=1, max_size=4))


def declared(layout: list[list[int]], per_epoch: int | None = None) -> list[dict[str, Any]]:
    """The layout as a recipe says it: in steps, or in epochs of `per_epoch` steps; the last phase without a length."""
    unit = "steps" if per_epoch is None else "epochs"
    return [
        {
            "name": f"s{number}",
            "full_steps": 1000 + number,
            unit: sum(phases),
            "phases": [{"name": f"p{k}", unit: n} for k, n in enumerate(phases[:-1])] + [{"name": "last"}],
        }
        for number, phases in enumerate(layout)
    ]


@given(layout=layouts(), per_epoch=st.none() | st.integers(1, 7))
def test_every_step_lies_in_the_stage_and_phase_that_a_walk_finds(layout: list[list[int]], per_epoch: int) -> None:
    """Against the steps written out one by one; the lengths of smoke and full run are the sums."""
    smoke = {} if per_epoch is None else {"steps_per_epoch": per_epoch}
    found = case(*declared(layout, per_epoch), **smoke)
    names = [
        (f"s{number}", "last" if k == len(phases) - 1 else f"p{k}")
        for number, phases in enumerate(layout)
        for k, steps in enumerate(phases)
        for _ in range(steps * (per_epoch or 1))
    ]
    windows = windows_of(found)
    assert [(w.name, w.phase_at(step)) for w in windows for step in range(w.first_step, w.end)] == names
    assert found.run_steps == found.recipe.smoke.max_steps == len(names)
    assert found.full.max_steps == sum(1000 + number for number in range(len(layout)))
    walked = [at for at in range(1, len(names)) if names[at] != names[at - 1]]
    starts = [w.first_step for w in windows[1:]]
    assert sorted([*starts, *(edge for w in windows if w.span for edge in w.span.edges)]) == walked


@given(layout=layouts())
def test_a_wiring_run_crosses_every_phase(layout: list[list[int]]) -> None:
    """At most ten steps a stage, each phase with one or more."""
    windows = windows_of(case(*declared(layout), mode="wiring"))
    for window, phases in zip(windows, layout, strict=True):
        assert window.steps == min(10, sum(phases)) == window.case.run_steps
        seen = [window.phase_at(step) for step in range(window.first_step, window.end)]
        assert len(set(seen)) == len(phases)


def test_a_stage_is_a_smoke_of_its_own() -> None:
    """What it names replaces the full run's, in smoke and full run alike; only the first starts from scratch."""
    a, b = windows_of(
        case(
            {"name": "A", "full_steps": 2000, "steps": 160},
            {
                "name": "B",
                "full_epochs": 10,
                "full_steps_per_epoch": 666,
                "steps": 200,
                "learning_rate": 5e-5,
                "warmup_steps": 5,
                "loss_weights": {"first": 9.0},
            },
            learning_rate=5e-4,
        )
    )
    assert (a.case.settings.learning_rate, a.case.settings.warmup_steps, a.case.full.max_steps) == (5e-4, 20, 2000)
    assert (b.case.settings.learning_rate, b.case.settings.warmup_steps, b.case.full.max_steps) == (5e-5, 5, 6660)
    assert (b.case.full.learning_rate, b.case.settings.max_steps, b.first_step) == (5e-5, 200, 160)
    assert b.case.settings.loss_weights == {"tf": 1.0, "first": 9.0}
    assert (a.case.full.from_scratch, b.case.full.from_scratch) == (True, False)
    assert (a.id("loss-trend"), b.id("loss-trend")) == ("loss-trend[A]", "loss-trend[B]")


def test_a_smoke_without_stages_is_one_window() -> None:
    """And its checks keep their plain ids."""
    recipe = {"task": "a:B", "full": {**FULL, "max_steps": 900}, "smoke": {"max_steps": 90}}
    plain = Case(path="a.smoke.yaml", recipe=Recipe.model_validate(recipe), mode="constant")
    (window,) = windows_of(plain)
    assert (window.case, window.name, window.first_step, window.steps) == (plain, "", 0, 90)
    assert window.id("loss-trend") == "loss-trend"


@pytest.mark.parametrize(
    ("stages", "fragments"),
    [
        ("- {name: A, full_steps: 9}", ["5:3: ", "stages[0] gives no length for the smoke's stage", "write steps"]),
        ("- {name: A, full_steps: 9, steps: 2, epochs: 1}", ["gives both steps and epochs"]),
        ("- {name: A, full_steps: 9, epochs: 1}", ["5:28: ", "stages[0].epochs", "add steps_per_epoch"]),
        ("- {name: A, full_epochs: 9, steps: 1}", ["stages[0].full_epochs", "add full_steps_per_epoch"]),
        ("- {name: A, steps: 9}", ["gives no length for the full run's stage", "write full_steps"]),
        ("- {name: A, steps: 9, full_steps: 9, phases: [{name: a}, {name: b}]}", ["phases[0] has no length"]),
        (
            "- {name: A, steps: 9, full_steps: 9, phases: [{name: a, steps: 9}, {name: b}]}",
            ["stages[0].phases take 9 steps before this one", "stage A has 9", "1 step or more"],
        ),
        (
            "- {name: A, steps: 9, full_steps: 9, phases: [{name: a, steps: 5}, {name: b, steps: 5}]}",
            ["stages[0].phases take 5 steps and 5, and stage A has 9"],
        ),
        ("- {name: a/b, steps: 9, full_steps: 9}", ["5:10: ", "'a/b'", "letters, digits and the signs"]),
        ("- {name: A, steps: 9, full_steps: 9, trian: [x]}", ["unknown key trian in stages[0]", "did you mean train?"]),
        ("- {name: A, steps: 9, full_steps: 9, phases: [{nam: x}]}", ["unknown key nam in stages[0].phases[0]"]),
        (
            "- {name: A, steps: 9, full_steps: 9}\n- {name: A, steps: 9, full_steps: 9}",
            ["6:10: ", "stages[1] is called A, as is stages[0]"],
        ),
        ("- {name: A, steps: 9, full_steps: 9, train: []}", ["stages[0].train", "at least 1"]),
    ],
)
def test_a_fault_of_a_stage_has_its_place(faults: Faults, stages: str, fragments: list[str]) -> None:
    """Line, column, what is wrong and what is allowed."""
    said = "\n".join(faults(HEAD + stages + "\n"))
    assert not [fragment for fragment in fragments if fragment not in said], said


@pytest.mark.parametrize(
    ("full", "smoke", "more", "fragments"),
    [
        ("max_steps: 8000", "", "", ["full.max_steps is 8000", "2000 + 6660 = 8660"]),
        ("max_steps: 8660", "max_steps: 320", "", ["smoke.max_steps is 320", "160 + 170 = 330"]),
        ("", "run_steps: 100", "", ["smoke.run_steps cuts a smoke short"]),
        ("", "", "ablate: {x: {full.max_steps: 9}}", ["cell x", "cannot change full.max_steps"]),
    ],
)
def test_sums_that_do_not_agree_are_refused(
    faults: Faults, full: str, smoke: str, more: str, fragments: list[str]
) -> None:
    """Both numbers are shown, and how the second came about."""
    stages = "- {name: A, full_steps: 2000, steps: 160}\n- {name: B, full_steps: 6660, steps: 170}\n"
    text = f"task: a_task:Task\nfull: {{batch_size: 24, learning_rate: 5.0e-4, {full}}}\nsmoke: {{{smoke}}}\n{more}\n"
    said = "\n".join(faults(text + "stages:\n" + stages))
    assert not [fragment for fragment in fragments if fragment not in said], said


def test_a_cell_that_every_stage_overrides_is_refused(faults: Faults) -> None:
    """It would be the baseline again, under another name."""
    stage = "- {{name: {}, full_steps: 9, steps: 9, learning_rate: 1.0e-3}}\n"
    cell = "ablate: {low: {full.learning_rate: 1.0e-4}}\n"
    (said,) = faults(HEAD + stage.format("A") + stage.format("B") + cell)
    assert said.startswith("7:16: cell low: every stage has its own learning_rate")
    assert faults(HEAD + stage.format("A") + "- {name: B, full_steps: 9, steps: 9}\n" + cell) == []


def test_sums_that_agree_and_cells_of_other_settings_are_accepted(root: Path) -> None:
    """A cell's recipe is as long as the baseline's."""
    path = root / "a.smoke.yaml"
    path.write_text(
        "task: a_task:Task\nfull: {batch_size: 24, learning_rate: 5.0e-4, max_steps: 2000}\nsmoke: {max_steps: 160}\n"
        "stages: [{name: A, full_steps: 2000, steps: 160}]\nablate: {small: {full.batch_size: 12}}\n"
    )
    _, small = load_cases(path, root=root, parse_criterion=parse)
    assert (small.full.batch_size, small.full.max_steps, small.run_steps) == (12, 2000, 160)
