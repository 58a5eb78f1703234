"""Names of other trainers in a recipe: the message says what the key is called here."""

from __future__ import annotations

import pytest

from pytest_smoke.recipe.configs.names import HERE, OTHERWISE
from pytest_smoke.recipe.model import Recipe, Settings, Smoke
from tests.recipe.texts import FULL, GOOD, HEAD, SMOKE, Faults


@pytest.mark.parametrize(
    ("section", "key", "text"),
    [
        ("full", "max_grad_norm", "unknown key max_grad_norm in full; max_grad_norm is grad_clip_norm here"),
        ("full", "gradient_clip_val", "gradient_clip_val is grad_clip_norm here"),
        ("full", "per_device_train_batch_size", "per_device_train_batch_size is batch_size here"),
        ("full", "accumulate_grad_batches", "accumulate_grad_batches is grad_accum_steps here"),
        ("full", "micro-batch-size", "micro-batch-size is batch_size here"),
        ("full", "warmup_ratio", "unknown key warmup_ratio in full; write warmup_steps = warmup_ratio x max_steps"),
        ("full", "num_train_epochs", "write max_steps = num_train_epochs x samples / effective batch"),
        ("full", "bf16", "write precision: bf16"),
        ("full", "seed_everything", "seed_everything is seed here, under smoke"),
        ("smoke", "lr", "unknown key lr in smoke; lr is learning_rate here"),
        ("smoke", "seed_everything", "seed_everything is seed here"),
    ],
)
def test_the_name_of_another_trainer_gets_its_equivalent(faults: Faults, section: str, key: str, text: str) -> None:
    lines = GOOD.splitlines()
    lines.insert(lines.index(f"{section}:") + 1, f"  {key}: 3")
    (fault,) = faults("\n".join(lines))
    assert fault.endswith(text), fault


def test_at_the_top_level_and_in_a_stage_the_section_is_named_where_it_is_another_one(faults: Faults) -> None:
    (fault,) = faults(HEAD + FULL + SMOKE + "max_norm: 1.0\n")
    assert fault == "4:1: unknown key max_norm; max_norm is grad_clip_norm here, under full"
    stages = "stages: [{name: A, steps: 9, full_steps: 9, lr: 1.0, max_grad_norm: 1.0}]\n"
    found = faults(HEAD + FULL.replace(", max_steps: 100", "") + "smoke: {}\n" + stages)
    assert any("unknown key lr in stages[0]; lr is learning_rate here" in one for one in found)
    assert any("max_grad_norm is grad_clip_norm here, under full" in one for one in found)


def test_a_cell_with_the_name_of_another_trainer_gets_its_equivalent(faults: Faults) -> None:
    (fault,) = faults(GOOD + "ablate: {clip: {full.max_grad_norm: 0.5}}\n")
    assert fault.endswith("unknown key full.max_grad_norm; max_grad_norm is grad_clip_norm here")


def test_no_name_of_another_trainer_is_a_key_of_recipes_and_each_equivalent_is() -> None:
    ours = {*Settings.model_fields, *Smoke.model_fields, *Recipe.model_fields}
    theirs = [*(name for names in HERE.values() for name in names), *OTHERWISE]
    assert len(theirs) == len(set(theirs))
    assert not ours & set(theirs)
    models = {"full": Settings, "smoke": Smoke}
    assert all(key.partition(".")[2] in models[key.partition(".")[0]].model_fields for key in HERE)
