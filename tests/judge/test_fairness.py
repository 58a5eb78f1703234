"""Whether a run is a fair smoke run of another, from their settings alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.judge.fairness import WORST_FIRST, SettingDifference, compare_settings, fairness
from pytest_smoke.judge.run_settings import RunSettings, Stated, of_case, of_config
from pytest_smoke.recipe.configs.file import read_config
from pytest_smoke.recipe.configs.settings import read_settings
from pytest_smoke.recipe.load import load_cases
from tests.recipe.configs import samples

EIGHT = {"world_size": Stated(value=8, place="--full world_size=8")}


def config(folder: Path, name: str, text: str, world_size: int | None = 8) -> RunSettings:
    """Write a config and return its settings, with a world size that the launcher would set."""
    (folder / name).write_text(text)
    options = {} if world_size is None else {"world_size": Stated(value=world_size, place="option")}
    stated = {key: one.value for key, one in options.items()}
    return of_config(read_settings(read_config(folder / name, name), stated=stated), options)


def shorter(text: str, *changes: tuple[str, str]) -> str:
    """Return a sample as its smoke run: 2,500 steps at a constant rate, and the changes."""
    for old, new in (("50000", "2500"), ("cosine", "constant_with_warmup"), ("0.02", "0.4"), *changes):
        assert old in text or (old, new) in (("0.02", "0.4"),), old
        text = text.replace(old, new)
    return text


def statuses(found: list[SettingDifference]) -> dict[str, str]:
    return {one.setting: one.status for one in found}


@pytest.mark.parametrize(
    ("name", "text", "world_size"),
    [
        ("c.yml", samples.AXOLOTL, 8),
        ("c.yaml", samples.LLAMA_FACTORY, 8),
        ("c.yaml", samples.HUGGING_FACE_YAML, 8),
        ("c.txt", samples.TRAINING_ARGUMENTS.replace("SchedulerType.COSINE", "SchedulerType.cosine"), 8),
        ("c.toml", samples.TORCHTITAN, None),
        ("c.yaml", samples.HYDRA, None),
        ("c.yaml", samples.PLAIN, None),
        ("c.yaml", samples.MEGATRON, None),
    ],
)
def test_a_config_that_differs_in_length_and_schedule_only_is_fair(
    tmp_path: Path, name: str, text: str, world_size: int | None
) -> None:
    full = config(tmp_path, f"full-{name}", text, world_size)
    smoke = config(tmp_path, f"smoke-{name}", shorter(text), world_size)
    found = compare_settings(full, smoke)
    assert fairness(found) == "fair", found
    assert statuses(found) == {"lr_schedule": "allowed", "max_steps": "allowed"}


@pytest.mark.parametrize(
    ("change", "setting", "text"),
    [
        (("_size: 16", "_size: 2"), "effective_batch", "The smoke run's gradient noise is 2.8x larger"),
        (("3e-4", "1e-4"), "learning_rate", "learning_rate is 0.0001 in the smoke run and 0.0003 in the full run"),
        (
            ("constant_with_warmup", "linear"),
            "lr_schedule",
            "lr_schedule is 'linear', constant mode requires 'constant'",
        ),
        (("constant_with_warmup", "constant"), "warmup_steps", "ignores warmup; use constant_with_warmup"),
        (
            ("warmup_steps: 1000", "warmup_steps: 10"),
            "warmup_steps",
            "warmup_steps is 10 in the smoke run and 1,000 in",
        ),
        (("max_steps: 2500", "max_steps: 1200"), "max_steps", "400 of 1,200 steps are at 80 % of the full run's peak"),
        (("max_steps: 2500", "max_steps: 900"), "max_steps", "0 of 900 steps are at 80 %"),
        (("bf16: true\nfp16:", "bf16: false\nfp16: true"), "precision", "precision is fp16 in the smoke run and bf16"),
        (("max_grad_norm: 1.0", "max_grad_norm: 0"), "grad_clip_norm", "grad_clip_norm is off in the smoke run and 1"),
        (("adamw_torch_fused", "adamw_8bit"), "optimizer", "optimizer is adamw_8bit in the smoke run and adamw in"),
        (("weight_decay: 0.1", "weight_decay: 0.0"), "weight_decay", "weight_decay is 0 in the smoke run and 0.1 in"),
        (("tatsu-lab/alpaca", "tiny"), "datasets[0].path", "datasets[0].path is tiny in the smoke run and tatsu-lab/"),
        (("sequence_len: 8192", "sequence_len: 512"), "sequence_len", "sequence_len is 512 in the smoke run and 8192"),
        (("seed: 42", "seed: 1"), "seed", "seed is 1 in the smoke run and 42 in the full run"),
    ],
)
def test_each_setting_that_shapes_the_training_makes_the_run_unfair_by_itself(
    tmp_path: Path, change: tuple[str, str], setting: str, text: str
) -> None:
    full = config(tmp_path, "full.yml", samples.AXOLOTL)
    found = compare_settings(full, config(tmp_path, "smoke.yml", shorter(samples.AXOLOTL, change)))
    assert fairness(found) == "not-fair"
    unfair = [one for one in found if one.status == "unfair"]
    assert unfair[0].setting == setting
    assert text in " ".join(one.text for one in unfair)
    assert unfair[0].full_place.startswith("full.yml:")
    assert unfair[0].smoke_place.startswith("smoke.yml:")


def test_the_worst_difference_comes_first_and_what_may_differ_last(tmp_path: Path) -> None:
    full = config(tmp_path, "full.yml", samples.AXOLOTL)
    text = shorter(
        samples.AXOLOTL, ("seed: 42", "seed: 1"), ("weight_decay: 0.1", "weight_decay: 0.3"), ("3e-4", "3e-3"),
        ("_size: 16", "_size: 1"), ("sequence_len: 8192", "sequence_len: 9"),
        ("max_grad_norm: 1.0\n", ""),
    )  # fmt: skip
    found = compare_settings(full, config(tmp_path, "smoke.yml", text))
    assert [(one.setting, one.status) for one in found] == [
        ("effective_batch", "unfair"),
        ("learning_rate", "unfair"),
        ("weight_decay", "unfair"),
        ("sequence_len", "unfair"),
        ("seed", "unfair"),
        ("grad_clip_norm", "unknown"),
        ("lr_schedule", "allowed"),
        ("max_steps", "allowed"),
    ]


def test_another_split_of_the_same_effective_batch_is_allowed(tmp_path: Path) -> None:
    full = config(tmp_path, "full.yml", samples.AXOLOTL)
    split = shorter(
        samples.AXOLOTL,
        ("_size: 16", "_size: 64"),
        ("gradient_accumulation_steps: 8", "gradient_accumulation_steps: 16"),
    )
    found = compare_settings(full, config(tmp_path, "smoke.yml", split, world_size=1))
    assert fairness(found) == "fair"
    (geometry,) = (one for one in found if one.setting == "batch_geometry")
    assert geometry.text == ("16 x 8 x 8 in the full run, 64 x 16 x 1 in the smoke run: effective batch 1,024 in both")


def test_what_is_missing_cannot_be_told_and_is_named(tmp_path: Path) -> None:
    full = config(tmp_path, "full.yml", samples.AXOLOTL, world_size=None)
    found = compare_settings(full, config(tmp_path, "smoke.yml", shorter(samples.AXOLOTL), world_size=None))
    assert fairness(found) == "could-not-tell"
    assert found[0].text == (
        "the effective batch is not known (16 x 8 x ? in the full run, 16 x 8 x ? in the smoke run): neither full.yml "
        "nor smoke.yml states world_size (the launcher sets it, such as torchrun --nproc_per_node)"
    )
    epochs = samples.AXOLOTL.replace("max_steps: 50000", "num_epochs: 3").replace(
        "warmup_steps: 1000", "warmup_ratio: 0.1"
    )
    found = compare_settings(
        config(tmp_path, "full.yml", epochs), config(tmp_path, "smoke.yml", shorter(samples.AXOLOTL))
    )
    assert fairness(found) == "could-not-tell"
    assert [one.setting for one in found if one.status == "unknown"] == ["warmup_steps"]
    assert "full.yml:28: warmup_ratio is 0.1 of a length that is not known" in found[0].text
    unresolved = config(tmp_path, "smoke.yml", shorter(samples.AXOLOTL, ("3e-4", "${lr}")))
    found = compare_settings(config(tmp_path, "full.yml", samples.AXOLOTL), unresolved)
    assert [one.setting for one in found if one.status == "unknown"] == ["learning_rate"]
    assert "smoke.yml:19: learning_rate is ${lr}, which is not resolved" in found[0].text


def test_a_key_of_unknown_effect_cannot_be_told_unless_it_is_ignored(tmp_path: Path) -> None:
    full = config(tmp_path, "full.yml", samples.AXOLOTL + "frobnicate: 1\n")
    smoke = config(tmp_path, "smoke.yml", shorter(samples.AXOLOTL) + "frobnicate: 2\nlogging_steps: 1\n")
    found = compare_settings(full, smoke)
    assert fairness(found) == "could-not-tell"
    assert found[0].text.endswith("whether it shapes the training is not known")
    assert fairness(compare_settings(full, smoke, ignore=["frobnicate"])) == "fair"


def test_configs_of_two_trainers_are_compared_by_what_the_settings_mean(tmp_path: Path) -> None:
    full = config(tmp_path, "full.toml", samples.TORCHTITAN, world_size=None)
    found = compare_settings(full, config(tmp_path, "smoke.yaml", shorter(samples.PLAIN), world_size=None))
    assert fairness(found) == "fair"
    assert statuses(found)["other keys"] == "not-compared"
    found = compare_settings(
        full, config(tmp_path, "smoke.yaml", shorter(samples.PLAIN, ("num_gpus: 8", "num_gpus: 1")), None)
    )
    assert fairness(found) == "not-fair"


def test_recipes_and_configs_can_be_compared_with_each_other(tmp_path: Path) -> None:
    (tmp_path / "a_task.py").write_text("class Task:\n    def __init__(self, **args): ...\n")
    recipe = (
        "task: a_task:Task\nargs: {depth: 4}\nfull: {batch_size: 16, grad_accum_steps: 8, world_size: 8, "
        "learning_rate: 3.0e-4, warmup_steps: 1000, max_steps: 50000, precision: bf16, grad_clip_norm: 1.0}\n"
    )

    def case(name: str, text: str) -> tuple[RunSettings, RunSettings]:
        (tmp_path / name).write_text(text)
        (found, *_) = load_cases(tmp_path / name, root=tmp_path)
        return of_case(found, "full", {}), of_case(found, "smoke", {})

    full, smoke = case("a.smoke.yaml", recipe + "smoke: {max_steps: 2500}\n")
    assert fairness(compare_settings(full, smoke)) == "fair"
    assert fairness(compare_settings(config(tmp_path, "full.yml", samples.AXOLOTL), smoke)) == "fair"
    assert fairness(compare_settings(full, config(tmp_path, "smoke.yml", shorter(samples.AXOLOTL)))) == "fair"
    _, hot = case("b.smoke.yaml", recipe.replace("3.0e-4", "6.0e-4") + "smoke: {max_steps: 2500}\n")
    assert fairness(compare_settings(config(tmp_path, "full.yml", samples.AXOLOTL), hot)) == "not-fair"
    _, other = case("c.smoke.yaml", recipe.replace("depth: 4", "depth: 2") + "smoke: {max_steps: 2500}\n")
    found = compare_settings(full, other)
    assert [one.text for one in found if one.status == "unfair"] == [
        "args.depth is 2 in the smoke run and 4 in the full run"
    ]
    _, own = case("d.smoke.yaml", recipe + "smoke: {max_steps: 2500, args: {depth: 3}, batch_size: 1}\n")
    assert {one.setting for one in compare_settings(full, own) if one.status == "unfair"} == {
        "args.depth",
        "effective_batch",
    }


def test_what_a_trainer_of_a_recipe_sets_itself_is_not_known_before_it_is_built(tmp_path: Path) -> None:
    (tmp_path / "make.py").write_text("def trainer(): ...\n")
    (tmp_path / "hf.smoke.yaml").write_text(
        "hf: make:trainer\nfull: {learning_rate: 3.0e-4}\nsmoke: {max_steps: 2500}\n"
    )
    (case, *_) = load_cases(tmp_path / "hf.smoke.yaml", root=tmp_path)
    found = compare_settings(config(tmp_path, "full.yml", samples.AXOLOTL), of_case(case, "smoke", {}))
    unknown = {one.setting: one.text for one in found if one.status == "unknown"}
    assert list(unknown) == ["effective_batch", "warmup_steps", "precision", "grad_clip_norm"]
    assert unknown["effective_batch"].endswith(
        "hf.smoke.yaml does not state batch_size, grad_accum_steps and world_size (set by the trainer of `hf`)"
    )
    (tmp_path / "from.smoke.yaml").write_text("hf: make:trainer\nfull: {from: full.yml}\nsmoke: {max_steps: 2500}\n")
    (case, *_) = load_cases(tmp_path / "from.smoke.yaml", root=tmp_path)
    assert case.recipe.repeated["grad_clip_norm"] == 1.0
    assert "world_size" not in case.recipe.repeated
    found = compare_settings(config(tmp_path, "full.yml", samples.AXOLOTL), of_case(case, "smoke", EIGHT))
    assert fairness(found) == "fair"


VALUES = st.fixed_dictionaries(
    {
        "batch_size": st.sampled_from([4, 8]),
        "grad_accum_steps": st.sampled_from([1, 2]),
        "world_size": st.sampled_from([1, 2]),
        "learning_rate": st.sampled_from([1e-3, 1e-4]),
        "warmup_steps": st.sampled_from([0, 100]),
        "precision": st.sampled_from(["bf16", "fp32"]),
        "grad_clip_norm": st.sampled_from([None, 1.0]),
    },
)


@given(
    full=VALUES,
    smoke=VALUES,
    missing=st.sets(st.sampled_from(["world_size", "learning_rate", "precision"]), max_size=2),
)
def test_a_run_is_fair_only_if_nothing_is_missing_and_all_that_counts_is_equal(
    full: dict[str, object], smoke: dict[str, object], missing: set[str]
) -> None:
    lengths = ({"max_steps": 5000, "lr_schedule": "cosine"}, {"max_steps": 1000, "lr_schedule": "constant"})
    runs = [
        RunSettings(
            path=name,
            trainer="plain",
            preset="plain",
            values={
                key: Stated(value=value, place="") for key, value in {**values, **length}.items() if key not in drop
            },
        )
        for name, values, length, drop in (("full", full, lengths[0], set()), ("smoke", smoke, lengths[1], missing))
    ]
    found = compare_settings(*runs)
    batches = [run["batch_size"] * run["grad_accum_steps"] * run["world_size"] for run in (full, smoke)]  # type: ignore[operator]  # numbers
    equal = all(
        full[key] == smoke[key]
        for key in ("learning_rate", "warmup_steps", "precision", "grad_clip_norm")
        if key not in missing
    )
    is_unfair = not equal or ("world_size" not in missing and batches[0] != batches[1])
    assert fairness(found) == ("not-fair" if is_unfair else "could-not-tell" if missing else "fair")
    ranks = [WORST_FIRST.index(one.setting) for one in found if one.status == "unfair"]
    assert ranks == sorted(ranks)
