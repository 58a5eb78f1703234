"""Stages: their place in the smoke run, the settings that they inherit, and every fault of their lengths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.load import load_cases
from pytest_smoke.recipe.model import Mode, Recipe

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
    """Declare the layout in steps, or in epochs of `per_epoch` steps; the last phase without a length."""
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
def test_every_step_is_in_the_stage_and_phase_declared_for_it(layout: list[list[int]], per_epoch: int) -> None:
    """Compared with the steps written out one by one."""
    smoke = {} if per_epoch is None else {"steps_per_epoch": per_epoch}
    found = case(*declared(layout, per_epoch), **smoke)
    names = [
        (f"s{number}", "last" if k == len(phases) - 1 else f"p{k}")
        for number, phases in enumerate(layout)
        for k, steps in enumerate(phases)
        for _ in range(steps * (per_epoch or 1))
    ]
    stages = found.stages
    assert [
        (stage.name, stage.phase_at(step)) for stage in stages for step in range(stage.first_step, stage.end)
    ] == names
    assert found.run_steps == found.recipe.smoke.max_steps == len(names)
    assert found.full.max_steps == sum(1000 + number for number in range(len(layout)))
    walked = [at for at in range(1, len(names)) if names[at] != names[at - 1]]
    starts = [stage.first_step for stage in stages[1:]]
    assert sorted([*starts, *(jump for stage in stages for jump in stage.expected_jumps)]) == walked
    assert [at for at in range(1, len(names)) if any(stage.starts_at(at) for stage in stages)] == walked


@given(layout=layouts())
def test_a_wiring_run_has_at_most_ten_steps_a_stage_and_reaches_every_phase(layout: list[list[int]]) -> None:
    wiring = case(*declared(layout), mode="wiring")
    for stage, phases in zip(wiring.stages, layout, strict=True):
        assert stage.steps == min(10, sum(phases))
        assert len({stage.phase_at(step) for step in range(stage.first_step, stage.end)}) == len(phases)
    assert wiring.run_steps == sum(stage.steps for stage in wiring.stages)


def test_a_stage_replaces_settings_in_both_runs_and_only_the_first_starts_from_scratch() -> None:
    a, b = case(
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
    ).stages
    assert (a.learning_rate, a.warmup_steps, a.full_steps) == (5e-4, 20, 2000)
    assert (b.learning_rate, b.warmup_steps, b.full_steps) == (5e-5, 5, 6660)
    assert (b.full_learning_rate, b.max_steps, b.first_step) == (5e-5, 200, 160)
    assert b.loss_weights == {"tf": 1.0, "first": 9.0}
    assert (a.from_scratch, b.from_scratch) == (True, False)
    assert (a.finding_id("loss-trend"), b.finding_id("loss-trend")) == ("loss-trend[A]", "loss-trend[B]")


def test_a_smoke_run_without_stages_is_one_stage_without_a_name() -> None:
    recipe = {"task": "a:B", "full": {**FULL, "max_steps": 900}, "smoke": {"max_steps": 90}}
    plain = Case(path="a.smoke.yaml", recipe=Recipe.model_validate(recipe), mode="constant")
    (stage,) = plain.stages
    assert (stage.name, stage.first_step, stage.steps, stage.max_steps, stage.full_steps) == ("", 0, 90, 90, 900)
    assert (stage.learning_rate, stage.warmup_steps, stage.loss_weights) == (5e-4, 20, {"tf": 1.0})
    assert (stage.full_learning_rate, stage.full_warmup_steps, stage.from_scratch) == (5e-4, 20, True)
    assert stage.finding_id("loss-trend") == "loss-trend"


@pytest.mark.parametrize(
    ("stages", "fragments"),
    [
        ("- {name: A, full_steps: 9}", ["5:3: ", "stages[0] has no length for the smoke run", "write steps"]),
        ("- {name: A, full_steps: 9, steps: 2, epochs: 1}", ["stages[0] has both steps and epochs for the smoke run"]),
        ("- {name: A, full_steps: 9, epochs: 1}", ["5:28: ", "stages[0].epochs", "add steps_per_epoch"]),
        ("- {name: A, full_epochs: 9, steps: 1}", ["stages[0].full_epochs", "add full_steps_per_epoch"]),
        ("- {name: A, steps: 9}", ["stages[0] has no length for the full run", "write full_steps"]),
        ("- {name: A, steps: 9, full_steps: 9, phases: [{name: a}, {name: b}]}", ["phases[0] has no length"]),
        (
            "- {name: A, steps: 9, full_steps: 9, phases: [{name: a, steps: 9}, {name: b}]}",
            ["stages[0].phases before the last have 9 steps", "stage A has 9 steps", "at least 1 for the last"],
        ),
        (
            "- {name: A, steps: 9, full_steps: 9, phases: [{name: a, steps: 5}, {name: b, steps: 5}]}",
            ["stages[0].phases add up to 5 + 5 steps, but stage A has 9 steps"],
        ),
        ("- {name: a/b, steps: 9, full_steps: 9}", ["5:10: ", "'a/b'", "letters, digits and the characters _ . + -"]),
        ("- {name: A, steps: 9, full_steps: 9, trian: [x]}", ["unknown key trian in stages[0]", "did you mean train?"]),
        ("- {name: A, steps: 9, full_steps: 9, phases: [{nam: x}]}", ["unknown key nam in stages[0].phases[0]"]),
        (
            "- {name: A, steps: 9, full_steps: 9}\n- {name: A, steps: 9, full_steps: 9}",
            ["6:10: ", "stages[1] has the same name as stages[0], A"],
        ),
        ("- {name: A, steps: 9, full_steps: 9, train: []}", ["stages[0].train", "at least 1"]),
    ],
)
def test_a_fault_of_a_stage_has_its_place_and_says_what_is_allowed(
    faults: Faults, stages: str, fragments: list[str]
) -> None:
    found = "\n".join(faults(HEAD + stages + "\n"))
    assert not [fragment for fragment in fragments if fragment not in found], found


@pytest.mark.parametrize(
    ("full", "smoke", "more", "fragments"),
    [
        ("max_steps: 8000", "", "", ["full.max_steps is 8000", "2000 + 6660 = 8660"]),
        ("max_steps: 8660", "max_steps: 320", "", ["smoke.max_steps is 320", "160 + 170 = 330"]),
        ("", "run_steps: 100", "", ["smoke.run_steps cannot be used with stages"]),
        (
            "",
            "",
            "ablate: {x: {full.max_steps: 9}}",
            ["cell x changes full.max_steps", "the stages set the length of the full run"],
        ),
    ],
)
def test_lengths_that_do_not_add_up_are_refused_with_their_sum(
    faults: Faults, full: str, smoke: str, more: str, fragments: list[str]
) -> None:
    stages = "- {name: A, full_steps: 2000, steps: 160}\n- {name: B, full_steps: 6660, steps: 170}\n"
    text = f"task: a_task:Task\nfull: {{batch_size: 24, learning_rate: 5.0e-4, {full}}}\nsmoke: {{{smoke}}}\n{more}\n"
    found = "\n".join(faults(text + "stages:\n" + stages))
    assert not [fragment for fragment in fragments if fragment not in found], found


def test_a_cell_that_every_stage_overrides_is_refused(faults: Faults) -> None:
    """It would repeat the baseline under another name."""
    stage = "- {{name: {}, full_steps: 9, steps: 9, learning_rate: 1.0e-3}}\n"
    cell = "ablate: {low: {full.learning_rate: 1.0e-4}}\n"
    (fault,) = faults(HEAD + stage.format("A") + stage.format("B") + cell)
    assert fault.startswith("7:16: cell low changes full.learning_rate, but every stage sets its own learning_rate")
    assert faults(HEAD + stage.format("A") + "- {name: B, full_steps: 9, steps: 9}\n" + cell) == []


def test_lengths_that_add_up_and_cells_of_other_settings_are_accepted(root: Path) -> None:
    path = root / "a.smoke.yaml"
    path.write_text(
        "task: a_task:Task\nfull: {batch_size: 24, learning_rate: 5.0e-4, max_steps: 2000}\nsmoke: {max_steps: 160}\n"
        "stages: [{name: A, full_steps: 2000, steps: 160}]\nablate: {small: {full.batch_size: 12}}\n"
    )
    _, small = load_cases(path, root=root)
    assert (small.full.batch_size, small.full.max_steps, small.run_steps) == (12, 2000, 160)
