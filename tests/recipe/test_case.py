"""Cases: the settings of one smoke run."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.load import load_cases
from pytest_smoke.recipe.model import Mode, Smoke


def cases(root: Path, mode: Mode | None = None, **sections: dict[str, Any]) -> list[Case]:
    data: dict[str, Any] = {
        "task": "a_task:Task",
        "full": {"batch_size": 16, "grad_accum_steps": 8, "learning_rate": 0.001, "max_steps": 50000},
        "smoke": {"max_steps": 2500},
    }
    for name, section in sections.items():
        data[name] = {**data.get(name, {}), **section}
    (root / "r.smoke.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    return load_cases(root / "r.smoke.yaml", root=root, mode=mode)


def test_for_each_mode_the_baseline_comes_before_its_cells(root: Path) -> None:
    found = cases(
        root,
        smoke={"mode": ["constant", "wiring"]},
        ablate={"b": {"args.x": 1}, "a": {"full.batch_size": 4}},
    )
    names = ["constant", "constant[b]", "constant[a]", "wiring", "wiring[b]", "wiring[a]"]
    assert [case.name for case in found] == names
    assert {case.path for case in found} == {"r.smoke.yaml"}


def test_a_cell_with_another_seed_changes_nothing_else(root: Path) -> None:
    baseline, reseeded = cases(root, smoke={"seed": 3}, ablate={"again": {"smoke.seed": 4}})
    assert (baseline.recipe.smoke.seed, reseeded.recipe.smoke.seed) == (3, 4)
    assert reseeded.settings == baseline.settings
    assert reseeded.full == baseline.full


def test_the_command_lines_mode_replaces_all_modes_of_the_recipe(root: Path) -> None:
    found = cases(root, "long-tail", smoke={"mode": ["constant", "wiring"]}, ablate={"a": {"args.x": 1}})
    assert [case.name for case in found] == ["long-tail", "long-tail[a]"]


def test_a_smoke_run_inherits_all_settings_but_its_length_and_schedule(root: Path) -> None:
    (case,) = cases(root, full={"warmup_steps": 1000, "precision": "bf16", "grad_clip_norm": 1.0})
    assert case.declared == {"max_steps": 2500}
    expected = {**case.full.model_dump(), "max_steps": 2500, "lr_schedule": "constant"}
    assert case.settings.model_dump() == expected
    assert case.run_steps == 2500


@pytest.mark.parametrize(
    ("mode", "lr_schedule", "run_steps"),
    [("constant", "constant", 3000), ("long-tail", "cosine", 3000), ("wiring", "constant", 10)],
)
def test_the_mode_sets_schedule_and_length(root: Path, mode: Mode, lr_schedule: str, run_steps: int) -> None:
    """A long-tail run stops early if the recipe says so; a wiring run has ten steps."""
    (case,) = cases(root, mode, smoke={"max_steps": 10_000, "run_steps": 3000})
    assert (case.settings.lr_schedule, case.settings.max_steps, case.run_steps) == (lr_schedule, 10_000, run_steps)


def test_declared_settings_are_kept_even_if_they_differ(root: Path) -> None:
    """The preflight refuses them, with both values."""
    (case,) = cases(root, smoke={"batch_size": 8, "grad_accum_steps": 1, "grad_clip_norm": None})
    assert case.declared == {"batch_size": 8, "grad_accum_steps": 1, "max_steps": 2500, "grad_clip_norm": None}
    assert case.settings.effective_batch == 8
    assert case.full.effective_batch == 128


def test_only_grad_clip_norm_may_be_null() -> None:
    assert Smoke(max_steps=1, grad_clip_norm=None).grad_clip_norm is None
    with pytest.raises(ValidationError, match="leave the key out to inherit"):
        Smoke(max_steps=1, batch_size=None)


def test_a_cell_changes_the_full_run_and_with_it_the_smoke_run(root: Path) -> None:
    base, cell = cases(root, ablate={"low": {"full.learning_rate": 1e-4}})
    assert (base.full.learning_rate, cell.full.learning_rate, cell.settings.learning_rate) == (1e-3, 1e-4, 1e-4)


def test_a_cell_changes_the_value_in_smoke_too_if_it_is_repeated_there(root: Path) -> None:
    """Otherwise the check `settings` would refuse every such cell."""
    _, rate, width = cases(
        root,
        args={"width": 64, "depth": 2},
        smoke={"learning_rate": 0.001, "args": {"width": 64}},
        ablate={"rate": {"full.learning_rate": 1e-4}, "width": {"args.width": 128}},
    )
    assert rate.settings.learning_rate == 1e-4
    assert (width.recipe.args, width.recipe.smoke.args) == ({"width": 128, "depth": 2}, {"width": 128})


def test_a_cell_keeps_a_value_in_smoke_that_differs(root: Path) -> None:
    _, cell = cases(root, smoke={"learning_rate": 0.5}, ablate={"rate": {"full.learning_rate": 1e-4}})
    assert cell.settings.learning_rate == 0.5


def test_a_cell_never_changes_the_length_of_the_smoke_run(root: Path) -> None:
    _, cell = cases(root, smoke={"max_steps": 50000}, ablate={"long": {"full.max_steps": 90000}})
    assert (cell.full.max_steps, cell.settings.max_steps) == (90000, 50000)


def test_a_cell_changes_nested_settings_and_creates_missing_ones(root: Path) -> None:
    base, beta, weight, new = cases(
        root,
        args={"optimizer": {"beta": 0.9, "name": "adamw"}},
        ablate={
            "beta": {"args.optimizer.beta": 0.5},
            "weight": {"full.loss_weights.crf": 0.1},
            "new": {"args.deep.er": [1]},
        },
    )
    assert base.recipe.args == {"optimizer": {"beta": 0.9, "name": "adamw"}}
    assert beta.recipe.args == {"optimizer": {"beta": 0.5, "name": "adamw"}}
    assert weight.full.loss_weights == {"crf": 0.1}
    assert new.recipe.args["deep"] == {"er": [1]}


def test_one_and_true_are_different_values_for_a_cell(root: Path) -> None:
    assert len(cases(root, args={"a": 1}, ablate={"c": {"args.a": True}, "d": {"args.a": 1.0}})) == 3


def test_a_case_is_immutable(root: Path) -> None:
    (case,) = cases(root)
    with pytest.raises(AttributeError):
        case.mode = "wiring"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        case.full.batch_size = 1  # type: ignore[misc]


def test_dumping_a_recipe_calls_no_code_of_this_package(root: Path) -> None:
    """pydantic turns exceptions raised during a dump into warnings, even a KeyboardInterrupt."""
    (case,) = cases(
        root,
        smoke={"mode": ["constant"], "pipeline": {"quantize": None}},
        checks={"resume": True, "accept": ["a: f1 > 1"]},
    )
    called: list[str] = []

    def record(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and "pytest_smoke" in Path(frame.f_code.co_filename).parts:
            called.append(frame.f_code.co_qualname)

    sys.setprofile(record)
    try:
        case.recipe.model_dump()
        case.recipe.model_dump_json()
    finally:
        sys.setprofile(None)
    assert called == []
