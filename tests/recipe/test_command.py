"""The `command` of a recipe: placeholders, their faults with their places, and what a command cannot have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.command import (
    PLACEHOLDERS,
    CommandPlan,
    names_in,
    placeholder_values,
    settings_not_passed,
)
from pytest_smoke.recipe.model import Recipe
from tests.recipe.texts import Faults

FULL = "full: {batch_size: 8, learning_rate: 1.0e-3, max_steps: 5000, warmup_steps: 10}\nsmoke: {max_steps: 100}\n"


def case(*command: str, mode: str = "constant", **keys: Any) -> Case:
    full = {"batch_size": 8, "learning_rate": 1e-3, "max_steps": 5000, "warmup_steps": 10} | keys.pop("full", {})
    smoke = {"max_steps": 100} | keys.pop("smoke", {})
    recipe = Recipe.model_validate({"command": list(command) or ["train"], "full": full, "smoke": smoke, **keys})
    return Case(path="a.smoke.yaml", recipe=recipe, mode=mode)  # type: ignore[arg-type]  # a Mode


def argv(*command: str, **keys: Any) -> tuple[str, ...]:
    return CommandPlan.of(case(*command, **keys), "/root").argv


def test_placeholders_stand_for_the_settings_of_the_smoke_run() -> None:
    words = argv("--lr={learning_rate}", "{max_steps}", "{lr_schedule}", "{warmup_steps}", "{seed}", "{precision}")
    assert words == ("--lr=0.001", "100", "constant", "10", "0", "fp32")
    assert argv("{max_steps}", "{run_steps}", mode="wiring") == ("100", "10")
    assert argv(
        "{args.net.width}", "{loss_weights.kl}", args={"net": {"width": 3}}, full={"loss_weights": {"kl": 0.5}}
    ) == (
        "3",
        "0.5",
    )


def test_spelling_replaces_a_value_and_names_one_that_is_off() -> None:
    spelling = {"lr_schedule": {"constant": "constant_with_warmup"}, "grad_clip_norm": {"none": "0"}}
    assert argv("{lr_schedule}", "{grad_clip_norm}", spelling=spelling) == ("constant_with_warmup", "0")


@given(st.text(alphabet="ab{} .", max_size=12))
def test_doubled_braces_write_any_text(text: str) -> None:
    assert argv(text.replace("{", "{{").replace("}", "}}")) == (text,)


def test_numbers_in_a_command_are_text() -> None:
    recipe = Recipe.model_validate(
        {"command": ["train", 4, 0.5], "full": case().full.model_dump(), "smoke": {"max_steps": 9}}
    )
    assert recipe.command == ["train", "4", "0.5"]


def test_every_placeholder_has_a_value_unless_it_is_off() -> None:
    known = placeholder_values(
        case(full={"grad_clip_norm": 1.0}, smoke={"steps_per_epoch": 5, "evaluate_every_steps": 5})
    )
    assert set(PLACEHOLDERS) == set(known)


def test_settings_that_no_placeholder_passes_on() -> None:
    assert settings_not_passed(case("{batch_size}", "{learning_rate}", "{run_steps}")) == [
        "lr_schedule",
        "warmup_steps",
    ]
    everything = case(*(f"{{{name}}}" for name in ("batch_size", "learning_rate", "lr_schedule", "warmup_steps")))
    assert settings_not_passed(everything) == ["max_steps"]
    assert settings_not_passed(case("{batch_size}", env={"LR": "{learning_rate} {max_steps} {lr_schedule}"})) == [
        "warmup_steps"
    ]


def test_the_effective_batch_stands_for_all_its_factors() -> None:
    many = case("{effective_batch}", full={"grad_accum_steps": 4, "world_size": 2})
    assert CommandPlan.of(many, "/root").argv == ("64",)
    assert not {"batch_size", "grad_accum_steps", "world_size"} & set(settings_not_passed(many))


def test_the_log_and_the_folder_are_relative_to_the_rootdir() -> None:
    plan = CommandPlan.of(case(cwd="sub/{mode}", log="out/{seed}.log"), "/root")
    assert (plan.cwd, plan.log) == ("/root/sub/constant", "/root/sub/constant/out/0.log")
    assert CommandPlan.of(case(log={"path": "/var/a.log", "counts": "micro-batches"}), "/root").log == "/var/a.log"
    assert CommandPlan.of(case(), "/root").log is None


RATIO, CELL = "checks: {grad_ratio: {a/b: [1, 2]}}\n", "ablate: {wide: {args.w: 2}}\nargs: {w: 1}\n"
FAULTS = [
    (
        "command: [train, '{learningrate}']\n",
        "1:18: ",
        "unknown placeholder {learningrate}; did you mean {learning_rate}?",
    ),
    ("command: [train, '{x}']\n", "1:18: ", "allowed: {batch_size}, {grad_accum_steps}"),
    ("command: [train]\nenv: {A: '{nope}'}\n", "2:10: ", "unknown placeholder {nope}"),
    ("command: [train]\nlog: {path: '{nope}'}\n", "2:13: ", "unknown placeholder {nope}"),
    ("command: [train, '{args.wide}']\nargs: {width: 1}\n", "1:18: ", "did you mean {args.width}?"),
    ("command: [train, 'a{b']\n", "1:18: ", "'a{b' has a single {; write {{"),
    ("command: [train, '{grad_clip_norm}']\n", "1:18: ", "spelling: {grad_clip_norm: {none: TEXT}}"),
    ("command: [train]\ntask: a_task:Task\n", "1:1: ", "task and command say what trains"),
    ("command: []\n", "1:10: ", "command has 0 entries"),
    ("command: train --lr 1\n", "1:10: ", "it must be a list, because no shell reads it: [train, --lr, 1]"),
    ("command: train --lr {learning_rate} 'a b\n", "1:10: ", '[train, --lr, "{learning_rate}", "\'a", b]'),
    ("command: [train]\nchecks: {resume: true}\n", "2:10: ", "checks.resume is not possible with a command"),
    (f"command: [train]\n{RATIO}", "2:10: ", "checks.grad_ratio is not possible with a command"),
    (f"command: [train]\n{CELL}", "2:17: ", "cell wide changes args.w, which the command does not get"),
    ("task: a_task:Task\nlog: a.log\n", "2:1: ", "log belongs to a command"),
    ("command: [train]\nlog: {los: a}\n", "2:7: ", "unknown key los in log; did you mean loss?"),
]


@pytest.mark.parametrize(("text", "place", "fragment"), FAULTS)
def test_a_fault_is_reported_at_its_place(faults: Faults, text: str, place: str, fragment: str) -> None:
    (fault,) = faults(text + FULL)
    assert fault.startswith(place)
    assert fragment in fault


def test_names_in_a_text() -> None:
    assert names_in("{{a}} {b}{c.d} }}{{") == ["b", "c.d"]
