"""`from` in a recipe: what is taken of the config, what must be stated, and what may not contradict."""

# ruff: noqa: E501  # messages on as few lines as possible

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_smoke.errors import RecipeError
from pytest_smoke.judge.checks.batch_geometry import batch_geometry
from pytest_smoke.judge.checks.schedule import schedule as schedule_check
from pytest_smoke.judge.checks.settings import settings as settings_check
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.configs.compare import effect_of
from pytest_smoke.recipe.load import load_cases
from tests.recipe.configs import samples

HEAD = "task: a_task:Task\n"
SMOKE = "smoke: {max_steps: 2500}\n"
AXOLOTL_FULL = HEAD + "full: {from: configs/full.yml, world_size: 8}\n"


@pytest.fixture
def folder(root: Path) -> Path:
    """The root folder with an axolotl, a torchtitan and a Hugging Face config in `configs`."""
    (root / "configs").mkdir()
    (root / "configs/full.yml").write_text(samples.AXOLOTL)
    (root / "configs/llama3.toml").write_text(samples.TORCHTITAN)
    (root / "configs/args.txt").write_text(samples.TRAINING_ARGUMENTS)
    return root


def load(folder: Path, text: str, name: str = "r.smoke.yaml") -> Case:
    """Write a recipe and return its first case."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return load_cases(path, root=folder)[0]


def faults_of(folder: Path, text: str, name: str = "r.smoke.yaml") -> list[str]:
    """Return the faults of a recipe."""
    with pytest.raises(RecipeError) as error:
        load(folder, text, name)
    return [str(fault) for fault in error.value.faults]


def test_full_takes_its_settings_from_the_config_and_places_name_it(folder: Path) -> None:
    case = load(folder, AXOLOTL_FULL + SMOKE)
    full = case.full
    assert (full.batch_size, full.grad_accum_steps, full.world_size, full.effective_batch) == (16, 8, 8, 1024)
    assert (full.learning_rate, full.lr_schedule, full.warmup_steps, full.max_steps) == (3e-4, "cosine", 1000, 50000)
    assert (full.precision, full.grad_clip_norm) == ("bf16", 1.0)
    assert case.recipe.smoke.seed == 42
    assert case.places["full.learning_rate"] == "configs/full.yml:19"
    assert case.places["full.world_size"] == "r.smoke.yaml:2"
    assert case.places["smoke.seed"] == "configs/full.yml:26"
    assert str(folder / "configs/full.yml") in case.checksums


def test_the_path_is_relative_to_the_file_that_names_it_and_absolute_paths_work(folder: Path) -> None:
    (folder / "base.smoke.yaml").write_text(AXOLOTL_FULL)
    child = load(folder, "extends: ../base.smoke.yaml\n" + SMOKE, "sub/child.smoke.yaml")
    assert child.full.batch_size == 16
    absolute = AXOLOTL_FULL.replace("configs/", f"{folder}/configs/")
    assert load(folder, absolute + SMOKE, "sub/other.smoke.yaml").full.batch_size == 16
    (fault,) = faults_of(folder, AXOLOTL_FULL + SMOKE, "sub/lost.smoke.yaml")
    assert fault == (
        "sub/lost.smoke.yaml:2:14: full.from: there is no file sub/configs/full.yml; the path is relative to the file "
        "that names it"
    )


def test_what_the_config_does_not_state_is_named_once_with_what_to_write(folder: Path) -> None:
    (folder / "configs/full.yml").write_text(samples.AXOLOTL.replace("max_grad_norm: 1.0\n", ""))
    (fault,) = faults_of(folder, AXOLOTL_FULL.replace(", world_size: 8", "") + SMOKE)
    assert fault == (
        "r.smoke.yaml:2:14: full.from: configs/full.yml (axolotl) does not state world_size (the launcher sets it, such "
        "as torchrun --nproc_per_node) and grad_clip_norm; a trainer's default is not guessed. Write what holds in full, "
        "such as `world_size: 1, grad_clip_norm: null`, or where the file has it: full.keys: {grad_clip_norm: NAME}"
    )


def test_a_value_that_cannot_be_read_is_reported_at_its_line_of_the_config(folder: Path) -> None:
    text = (
        samples.AXOLOTL.replace("bf16: true", "bf16: auto")
        .replace("3e-4", "${lr}")
        .replace("max_steps: 50000", "num_epochs: 2")
    )
    (folder / "configs/full.yml").write_text(text)
    assert faults_of(folder, AXOLOTL_FULL + SMOKE) == [
        "configs/full.yml:16:1: full.max_steps cannot be read: num_epochs is 2: how many steps that makes depends on the "
        "data; state max_steps = num_epochs x samples / effective batch",
        "configs/full.yml:19:1: full.learning_rate cannot be read: learning_rate is ${lr}, which is not resolved; save the "
        "resolved config (OmegaConf.save with resolve=True, or --cfg job --resolve); state learning_rate in full",
        "configs/full.yml:22:1: full.precision cannot be read: bf16 is auto, which depends on the GPU; state the value "
        "itself",
    ]
    stated = AXOLOTL_FULL.replace(
        "world_size: 8", "world_size: 8, precision: bf16, learning_rate: 3.0e-4, max_steps: 900"
    )
    assert load(folder, stated + SMOKE).full.max_steps == 900


def test_a_value_that_the_model_refuses_is_reported_at_its_line_of_the_config(folder: Path) -> None:
    (folder / "configs/full.yml").write_text(samples.AXOLOTL.replace("3e-4", "0"))
    (fault,) = faults_of(folder, AXOLOTL_FULL + SMOKE)
    assert fault == "configs/full.yml:19:1: full.learning_rate is 0.0; it must be greater than 0"


def test_a_value_in_both_that_differs_names_both_places_and_one_that_agrees_is_fine(folder: Path) -> None:
    same = AXOLOTL_FULL.replace("world_size: 8", "world_size: 8, learning_rate: 3.0e-4, batch_size: 16")
    assert load(folder, same + SMOKE).full.learning_rate == 3e-4
    (fault,) = faults_of(folder, AXOLOTL_FULL.replace("world_size: 8", "world_size: 8, learning_rate: 1.0e-3") + SMOKE)
    assert fault == (
        "r.smoke.yaml:2:62: full.learning_rate is 0.001 here and 0.0003 in configs/full.yml:19 (learning_rate); "
        "remove it here, or correct one of them"
    )
    (fault,) = faults_of(folder, HEAD + "args: {weight_decay: 0.01}\n" + AXOLOTL_FULL.removeprefix(HEAD) + SMOKE)
    assert fault.startswith("r.smoke.yaml:2:22: args.weight_decay is 0.01 here and 0.1 in configs/full.yml:30")
    (folder / "configs/llf.yaml").write_text(samples.LLAMA_FACTORY)
    mixed = HEAD + "full: {from: configs/llf.yaml, world_size: 1}\nsmoke: {max_steps: 2500}\n"
    mix = "mix: {{sources: {{identity: {{rows: 10, share: {}}}, alpaca_en_demo: {{rows: 90, share: {}}}}}}}\n"
    load(folder, mixed + mix.format(0.25, 0.75))
    (fault,) = faults_of(folder, mixed + mix.format(0.5, 0.5))
    assert "identity is 0.5 of the mix here and 0.25 in configs/llf.yaml:16 (interleave_probs)" in fault


def test_smoke_takes_its_settings_from_a_config_too(folder: Path) -> None:
    smoke = samples.AXOLOTL.replace("max_steps: 50000", "max_steps: 2500").replace("cosine", "constant_with_warmup")
    (folder / "configs/smoke.yml").write_text(smoke.replace("_size: 16", "_size: 8").replace("steps: 8", "steps: 16"))
    case = load(folder, AXOLOTL_FULL + "smoke: {from: configs/smoke.yml}\n")
    assert (case.settings.batch_size, case.settings.grad_accum_steps, case.settings.effective_batch) == (8, 16, 1024)
    assert (case.settings.max_steps, case.settings.lr_schedule) == (2500, "constant")
    assert case.places["smoke.lr_schedule"] == "configs/smoke.yml:18"
    (folder / "configs/smoke.yml").write_text(
        smoke.replace("max_grad_norm: 1.0\n", "").replace("warmup_steps: 1000\n", "")
    )
    (fault,) = faults_of(folder, AXOLOTL_FULL + "smoke: {from: configs/smoke.yml}\n")
    assert "does not state warmup_steps and grad_clip_norm" in fault
    assert fault.endswith(
        "Write what holds in smoke, such as `warmup_steps: 1000, grad_clip_norm: 1` of the full run, or where the file "
        "has it: smoke.keys: {warmup_steps: NAME}"
    )


def test_keys_and_preset_are_checked_where_they_are_written(folder: Path) -> None:
    text = AXOLOTL_FULL.replace("world_size: 8", "world_size: 8, keys: {learning_rate: weight_decay}")
    assert load(folder, text + SMOKE).full.learning_rate == 0.1
    assert load(folder, AXOLOTL_FULL.replace("8}", "8, preset: axolotl}") + SMOKE).full.batch_size == 16
    for more, fault in (
        (
            "keys: {learning_rate: optim.lr}",
            "2:69: full: configs/full.yml has no key optim.lr; did you mean optimizer?",
        ),
        ("keys: {lr: learning_rate}", "2:58: full: keys has no setting lr; lr is learning_rate here"),
        ("keys: [a]", "2:53: full.keys is a list; it must be a mapping, setting: key of the config"),
        ("keys: {seed: 3}", "2:60: full.keys.seed is 3; it must be a dotted key of the config, optim.lr"),
        ("preset: axolotle", "2:55: full.preset is the text 'axolotle'; did you mean axolotl?"),
    ):
        (found,) = faults_of(folder, AXOLOTL_FULL.replace("world_size: 8", f"world_size: 8, {more}") + SMOKE)
        assert found.startswith(f"r.smoke.yaml:{fault}"), found
    (folder / "base.smoke.yaml").write_text(AXOLOTL_FULL + SMOKE)
    (found,) = faults_of(folder, HEAD + "full: {from: base.smoke.yaml}\n" + SMOKE)
    assert found.endswith("full.from: base.smoke.yaml is a recipe, not the config of a trainer; write it as extends")
    (found,) = faults_of(folder, HEAD + "full: {preset: plain}\n" + SMOKE)
    assert "full.preset says how to read a config, but full.from names none" in found
    (found,) = faults_of(folder, HEAD + "full: {from: [a]}\n" + SMOKE)
    assert found.endswith("full.from is a list; it must be the path of a config file")


def test_a_whole_global_batch_and_devices_make_the_accumulation(folder: Path) -> None:
    full = load(folder, HEAD + "full: {from: configs/llama3.toml}\n" + SMOKE).full
    assert (full.batch_size, full.grad_accum_steps, full.world_size, full.effective_batch) == (16, 8, 8, 1024)
    dump = load(folder, HEAD + "full: {from: configs/args.txt, world_size: 2}\n" + SMOKE).full
    assert dump.effective_batch == 256


def test_cells_and_stages_work_on_a_full_run_that_was_read(folder: Path) -> None:
    text = AXOLOTL_FULL + SMOKE + "ablate: {hot: {full.learning_rate: 1.0e-3}}\n"
    (folder / "r.smoke.yaml").write_text(text)
    baseline, hot = load_cases(folder / "r.smoke.yaml", root=folder)
    assert (baseline.full.learning_rate, hot.full.learning_rate) == (3e-4, 1e-3)
    staged = "smoke: {}\nstages: [{name: A, steps: 900, full_steps: 50000}]\n"
    assert load(folder, AXOLOTL_FULL + staged).stages[0].full_warmup_steps == 1000


def test_what_two_configs_of_one_trainer_say_about_model_data_and_optimizer_is_compared(folder: Path) -> None:
    smoke = samples.AXOLOTL.replace("max_steps: 50000", "max_steps: 2500").replace("cosine", "constant_with_warmup")
    other = (
        smoke.replace("weight_decay: 0.1", "weight_decay: 0.0").replace("8192", "1024").replace("outputs/out", "smoke")
    )
    (folder / "configs/smoke.yml").write_text(other)
    (finding,) = settings_check(load(folder, AXOLOTL_FULL + "smoke: {from: configs/smoke.yml}\n"))
    assert (finding.status, finding.reason) == ("fail", "different-setting")
    assert finding.text == (
        "weight_decay is 0.0 in the smoke run and 0.1 in the full run; "
        "sequence_len is 1024 in the smoke run and 8192 in the full run"
    )
    assert (
        finding.hint
        == "give weight_decay and sequence_len the full run's value in configs/smoke.yml, or change the full run"
    )
    (folder / "configs/smoke.yml").write_text(smoke)
    (finding,) = settings_check(load(folder, AXOLOTL_FULL + "smoke: {from: configs/smoke.yml}\n"))
    assert finding.status == "pass"


@pytest.mark.parametrize(
    ("key", "effect"),
    [
        ("sequence_len", "shapes"),
        ("model_name_or_path", "shapes"),
        ("model.init_args.hidden_size", "shapes"),
        ("lora_r", "shapes"),
        ("datasets[0].path", "shapes"),
        ("optimizer.init_args.betas", "shapes"),
        ("adam_beta2", "shapes"),
        ("label_smoothing_factor", "shapes"),
        ("output_dir", "none"),
        ("logging_steps", "none"),
        ("per_device_eval_batch_size", "none"),
        ("trainer.callbacks[0].init_args.every_n_epochs", "none"),
        ("dataloader_num_workers", "none"),
        ("parallelism.tensor_parallel_degree", "none"),
        ("lr_scheduler.init_args.T_max", "none"),
        ("val_set_size", "none"),
        ("gradient_checkpointing", "none"),
        ("run_name", "none"),
        ("lora_rank", "shapes"),
        ("mix_strategy", "shapes"),
        ("average_tokens_across_devices", "shapes"),
        ("accelerator_config.split_batches", "shapes"),
        ("checkpoint.initial_load_path", "shapes"),
        ("train_on_inputs", "shapes"),
        ("trainer.limit_train_batches", "shapes"),
        ("trainer.sync_batchnorm", "shapes"),
        ("quantize.linear.float8.recipe_name", "shapes"),
        ("trainer.enable_model_summary", "none"),
        ("trainer.strategy.init_args.find_unused_parameters", "none"),
        ("include_num_input_tokens_seen", "none"),
        ("trust_remote_code", "none"),
        ("local_rank", "none"),
        ("eval_split", "none"),
        ("use_liger_kernel", "none"),
        ("frobnicate", "unknown"),
    ],
)
def test_the_name_of_a_key_tells_whether_it_shapes_the_training(key: str, effect: str) -> None:
    assert effect_of(key) == effect


def test_a_check_that_fails_names_the_config_to_correct(folder: Path) -> None:
    smoke = samples.AXOLOTL.replace("max_steps: 50000", "max_steps: 2500").replace("_size: 16", "_size: 2")
    (folder / "configs/smoke.yml").write_text(smoke.replace("bf16: true", "bf16: false").replace("fp16:", "fp16: true"))
    case = load(folder, AXOLOTL_FULL + "smoke: {from: configs/smoke.yml}\n")
    (batch,), (schedule,), (settings,) = batch_geometry(case), schedule_check(case), settings_check(case)
    assert (batch.key, case.places[batch.key]) == ("smoke.batch_size", "configs/smoke.yml:15")
    assert batch.hint == "change configs/smoke.yml so that batch_size x grad_accum_steps x world_size is 1024"
    assert schedule.reason == "masked"
    assert schedule.hint == (
        "choose a constant schedule in configs/smoke.yml, or rerun with --smoke-mode constant, which overrides it"
    )
    assert settings.hint == "give precision the full run's value in configs/smoke.yml, or change the full run"
    assert case.read_from("smoke", "learning_rate") == "configs/smoke.yml"
    assert case.read_from("full", "world_size") is None
