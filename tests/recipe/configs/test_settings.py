"""What each trainer's config says, and what it leaves open."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_smoke.errors import RecipeError
from pytest_smoke.recipe.configs.file import read_config
from pytest_smoke.recipe.configs.python_text import read_arguments_dump
from pytest_smoke.recipe.configs.settings import ConfigKeyError, TrainerConfig, read_settings
from tests.recipe.configs import samples

COMMON = {
    "batch_size": 16,
    "grad_accum_steps": 8,
    "learning_rate": 3e-4,
    "lr_schedule": "cosine",
    "warmup_steps": 1000,
    "max_steps": 50000,
    "precision": "bf16",
    "grad_clip_norm": 1.0,
    "weight_decay": 0.1,
    "seed": 42,
}
EACH = [
    ("dump.txt", samples.TRAINING_ARGUMENTS, "huggingface", {"optimizer": "adamw"}),
    ("sft.yaml", samples.HUGGING_FACE_YAML, "huggingface", {"optimizer": "adamw"}),
    ("args.json", samples.HUGGING_FACE_JSON, "huggingface", {"optimizer": "adamw"}),
    ("train.py", samples.PYTHON_CALL, "huggingface", {"optimizer": "adamw"}),
    ("args.py", samples.PYTHON_DICT, "huggingface", {"optimizer": "adamw"}),
    ("args", samples.PYTHON_DICT.removeprefix("training_args = "), "huggingface", {}),
    ("sft.yaml", samples.LLAMA_FACTORY, "llama-factory", {"data_mix": {"identity": 0.25, "alpaca_en_demo": 0.75}}),
    ("fft.yml", samples.AXOLOTL, "axolotl", {"optimizer": "adamw"}),
    ("llama3.toml", samples.TORCHTITAN, "torchtitan", {"world_size": 8, "optimizer": "adamw"}),
    ("config.yaml", samples.LIGHTNING, "lightning", {"world_size": 8, "optimizer": "adamw"}),
    ("config.yaml", samples.HYDRA, "hydra", {"world_size": 8, "data_mix": {"web": 0.75, "code": 0.25}}),
    ("train.yaml", samples.PLAIN, "plain", {"world_size": 8, "optimizer": "adamw"}),
    ("train_gpt2.py", samples.NANOGPT, "plain", {}),
    ("pretrain.yaml", samples.MEGATRON, "plain", {"world_size": 8, "optimizer": "adam"}),
    ("ds_config.json", samples.DEEPSPEED, "plain", {"optimizer": "adamw"}),
    ("args.log", samples.NAMESPACE, "plain", {}),
    ("nemo.yaml", samples.NEMO, "lightning", {"world_size": 8}),
    ("full.yaml", samples.TORCHTUNE, "plain", {"optimizer": "adamw"}),
    ("mpt.yaml", samples.COMPOSER, "plain", {"world_size": 8, "optimizer": "decoupled_adamw"}),
    ("config.yaml", samples.WANDB, "plain", {}),
    ("args.json", samples.NO_TRAINER, "huggingface", {}),
]


def read(folder: Path, name: str, text: str, **given: object) -> TrainerConfig:
    """Write a config and read its settings."""
    (folder / name).write_text(text)
    return read_settings(read_config(folder / name, name), **given)  # type: ignore[arg-type]  # of the parameters' types


@pytest.mark.parametrize(("name", "text", "preset", "more"), EACH, ids=[f"{one[2]}-{one[0]}" for one in EACH])
def test_the_settings_of_each_trainer_are_found_by_its_own_keys(
    tmp_path: Path, name: str, text: str, preset: str, more: dict[str, object]
) -> None:
    config = read(tmp_path, name, text)
    assert config.preset == preset
    assert {key: str(error) for key, error in config.unclear.items()} == {}
    assert {key: config.value(key) for key in (*COMMON, *more)} == {**COMMON, **more}
    if "world_size" not in more:
        assert "world_size" not in config.values
        assert config.effective_batch is None


@pytest.mark.parametrize(
    ("name", "text", "setting", "place"),
    [
        ("dump.txt", samples.TRAINING_ARGUMENTS, "learning_rate", "dump.txt:23 (learning_rate)"),
        ("args.json", samples.HUGGING_FACE_JSON, "warmup_steps", "args.json:8 (training_args.warmup_steps)"),
        ("train.py", samples.PYTHON_CALL, "max_steps", "train.py:12 (TrainingArguments.max_steps)"),
        ("llama3.toml", samples.TORCHTITAN, "grad_clip_norm", "llama3.toml:26 (training.max_norm)"),
        ("config.yaml", samples.LIGHTNING, "learning_rate", "config.yaml:26 (optimizer.init_args.lr)"),
        ("config.yaml", samples.HYDRA, "learning_rate", "config.yaml:13 (optim.lr)"),
        ("sft.yaml", samples.LLAMA_FACTORY, "warmup_steps", "sft.yaml:29 (warmup_ratio)"),
    ],
)
def test_each_value_remembers_its_file_line_and_key(
    tmp_path: Path, name: str, text: str, setting: str, place: str
) -> None:
    assert read(tmp_path, name, text).place(setting) == place


HF = "per_device_train_batch_size: 16\ngradient_accumulation_steps: 8\n"


@pytest.mark.parametrize(
    ("text", "setting", "why"),
    [
        (HF + "num_train_epochs: 3\n", "max_steps", "depends on the data; state max_steps = num_train_epochs x"),
        (HF + "num_train_epochs: 3\nwarmup_ratio: 0.1\n", "warmup_steps", "0.1 of a length that is not known"),
        (HF + "learning_rate: ${base.lr}\n", "learning_rate", "learning_rate is ${base.lr}, which is not resolved"),
        (HF + "learning_rate: ???\n", "learning_rate", "must be set when the trainer is started"),
        (HF + "learning_rate: fast\n", "learning_rate", "learning_rate is fast, which is not a number"),
        (HF + "auto_find_batch_size: true\n", "batch_size", "the trainer may halve the batch"),
        ("gradient_accumulation_steps: auto\nlogging_steps: 1\n", "grad_accum_steps", "auto, which is not a number"),
        (samples.AXOLOTL.replace("bf16: true", "bf16: auto"), "precision", "bf16 is auto, which depends on the GPU"),
        (samples.LIGHTNING.replace("devices: 4", "devices: auto"), "world_size", "all devices of the machine"),
        (samples.LIGHTNING.replace("devices: 4", "devices: -1"), "world_size", "decides when it starts"),
        (samples.LIGHTNING.replace("max_steps: 50000", "max_epochs2: 1").replace("max_epochs: null", "max_epochs: 9"),
         "max_steps", "trainer.max_epochs is 9: how many steps"),
        (samples.LIGHTNING.replace("algorithm: null", "algorithm: value"), "grad_clip_norm", "values are clipped"),
        (samples.PLAIN.replace("warmup_steps: 1000", "warmup_epochs: 2"), "warmup_steps", "steps in one epoch"),
        (samples.PLAIN.replace("warmup_steps: 1000", "warmup: 0.1"), "warmup_steps", "may count steps or be a share"),
        (samples.PLAIN + "optim: {lr: 0.1}\n", "learning_rate", "train.lr is 0.0003 and optim.lr is 0.1"),
        (samples.MEGATRON.replace("1024", "1000"), "grad_accum_steps", "1000, which is not a multiple of"),
        (samples.PLAIN + "global_batch_size: 64\n", "effective_batch", "global_batch_size is 64, but batch_size 16 x"),
    ],
)  # fmt: skip
def test_a_value_that_the_file_does_not_tell_is_unclear_and_never_guessed(
    tmp_path: Path, text: str, setting: str, why: str
) -> None:
    config = read(tmp_path, "c.yaml", text)
    assert setting not in config.values or setting == "effective_batch"
    assert why in str(config.unclear[setting])
    assert config.unclear[setting].entry.line > 0


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        (HF, "grad_clip_norm"),
        (HF, "precision"),
        (HF + "bf16: false\n", "precision"),
        (HF, "lr_schedule"),
        (HF, "max_steps"),
        (HF, "warmup_steps"),
        (samples.TORCHTITAN.replace("global_batch_size = 1024\n", ""), "grad_accum_steps"),
        (samples.TORCHTITAN.replace('decay_type = "cosine"\n', ""), "lr_schedule"),
    ],
)
def test_the_default_of_a_trainer_is_not_guessed(tmp_path: Path, text: str, setting: str) -> None:
    config = read(tmp_path, "c.toml" if "[job]" in text else "c.yaml", text)
    assert setting not in config.values
    assert setting not in config.unclear


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("lr_scheduler_type: constant\nwarmup_steps: 500\n", {"lr_schedule": "constant", "warmup_steps": 0}),
        ("lr_scheduler_type: constant_with_warmup\nwarmup_steps: 500\n", {"warmup_steps": 500}),
        ("lr_scheduler_type: cosine_with_restarts\n", {"lr_schedule": "other"}),
        ("lr_scheduler_type: warmup_stable_decay\n", {"lr_schedule": "wsd"}),
        ("max_steps: 1000\nwarmup_steps: 0\nwarmup_ratio: 0.03\n", {"warmup_steps": 30}),
        ("max_steps: 1000\nwarmup_steps: 0.05\n", {"warmup_steps": 50}),
        ("max_steps: 1000\nwarmup_steps: 7\nwarmup_ratio: 0.03\n", {"warmup_steps": 7}),
        ("max_grad_norm: 0.0\n", {"grad_clip_norm": None}),
        ("max_grad_norm:\n", {"grad_clip_norm": None}),
        ("bf16: false\nfp16: false\n", {"precision": "fp32"}),
        ("bf16: off\nfp16: on\n", {"precision": "fp16"}),
        ("world_size: 4\n", {"world_size": 4}),
        ("local_rank: -1\n_n_gpu: 2\n", {"world_size": 2}),
        ("optim: paged_adamw_8bit\n", {"optimizer": "paged_adamw_8bit"}),
    ],
)
def test_hugging_face_arguments_mean_what_the_trainer_makes_of_them(
    tmp_path: Path, lines: str, expected: dict[str, object]
) -> None:
    config = read(tmp_path, "c.yaml", HF + lines)
    assert {key: config.values[key].value for key in expected} == expected


def test_a_preset_or_keys_settle_what_the_keys_leave_open(tmp_path: Path) -> None:
    both = samples.AXOLOTL + "per_device_train_batch_size: 4\ncutoff_len: 9\ntemplate: x\n"
    with pytest.raises(ConfigKeyError, match=r"keys of LLaMA-Factory and axolotl; name its trainer: preset: llama-fac"):
        read(tmp_path, "c.yaml", both)
    assert read(tmp_path, "c.yaml", both, preset="axolotl").value("batch_size") == 16
    assert read(tmp_path, "c.yaml", both, preset="llama-factory").value("batch_size") == 4
    two_rates = samples.PLAIN + "optim: {lr: 0.1}\nstart: {share: 0.2}\n"
    chosen = read(tmp_path, "c.yaml", two_rates, keys={"learning_rate": "optim.lr", "warmup_ratio": "start.share"})
    assert (chosen.value("learning_rate"), chosen.value("warmup_steps")) == (0.1, 10_000)
    for keys, text in (
        ({"learning_rate": "optim.lrr"}, "c.yaml has no key optim.lrr; did you mean optim.lr?"),
        ({"learning_rte": "optim.lr"}, "keys has no setting learning_rte; did you mean learning_rate?"),
    ):
        with pytest.raises(ConfigKeyError) as error:
            read(tmp_path, "c.yaml", two_rates, keys=keys)
        assert str(error.value) == text
    with pytest.raises(ConfigKeyError, match="no key of a known setting"):
        read(tmp_path, "c.yaml", "colour: red\n")


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("c.json", '{"a": 1,}', "c.json:1:"),
        ("c.json", '{"lr": 1,\n "lr": 2}', "c.json:2:2: key 'lr' is already on line 1"),
        ("c.json", "[1]", "does not contain a mapping"),
        ("c.toml", "[train]\nlr = 1e-4\nlr = 2\n", "c.toml:3:"),
        ("c.yaml", "lr: 1\nlr: 2\n", "c.yaml:2:1: key 'lr' is already on line 1; delete one of them"),
        ("c.yaml", "lr: [1\n", "c.yaml:2:1: not valid YAML"),
        ("c.yaml", "", "the file is empty; a config is a mapping of settings"),
        ("c.py", "x = (\n", "c.py:1:"),
        ("c.py", "import os\nprint(1)\n", "no dict literal"),
        ("training_args.bin", "x\0y", "would have to be executed"),
        ("two.log", samples.TRAINING_ARGUMENTS + samples.TRAINING_ARGUMENTS.replace("seed=42", "seed=43"),
         "two dumps that differ in seed (lines 39 and 82)"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_says_where_and_why(tmp_path: Path, name: str, text: str, fault: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RecipeError) as error:
        read_config(tmp_path / name, name)
    assert fault in str(error.value)


def test_yaml_merge_keys_switches_tags_and_dates_are_read_as_trainers_read_them(tmp_path: Path) -> None:
    text = (
        "base: &base {lr: 1e-3, batch_size: 4, bf16: no}\n"
        "train:\n  <<: *base\n  batch_size: 8\n  when: 2024-01-01\n  path: !!python/tuple [a]\n  1: one\n  nan: .nan\n"
    )
    (tmp_path / "c.yaml").write_text(text)
    entries = read_config(tmp_path / "c.yaml", "c.yaml").entries
    assert (entries["train.lr"].value, entries["train.batch_size"].value) == (0.001, 8)
    assert entries["train.bf16"].value is False
    assert entries["train.when"].value == "2024-01-01"


def test_nothing_in_a_python_config_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    text = samples.PYTHON_DICT.replace("0.0003", f"__import__('pathlib').Path({str(mark)!r}).touch()")
    config = read(tmp_path, "args.py", text)
    assert not mark.exists()
    assert "is the expression" in str(config.unclear["learning_rate"])


LEAF = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.lists(st.integers())
)
NAMES = ["lr", "batch_size", "max_steps", "warmup", "bf16", "seed", "optimizer", "devices", "weights", "name", "x"]
TREE = st.dictionaries(st.sampled_from(NAMES), LEAF | st.dictionaries(st.sampled_from(NAMES), LEAF), min_size=1)


@settings(max_examples=150, deadline=None)
@given(tree=TREE)
def test_any_mapping_is_read_or_refused_with_a_sentence(tmp_path_factory: pytest.TempPathFactory, tree: object) -> None:
    folder = tmp_path_factory.mktemp("any")
    for preset in (None, "huggingface", "lightning"):
        try:
            config = read(folder, "c.json", json.dumps(tree, indent=1), preset=preset)
        except (ConfigKeyError, RecipeError):
            continue
        assert not set(config.values) & set(config.unclear) - {"effective_batch"}
        assert all(reading.entry.line >= 1 for reading in config.values.values())


NAMED = st.text("abcdefg_", min_size=1, max_size=6).filter(lambda name: name.isidentifier())
NESTED = st.recursive(
    st.integers() | st.booleans() | st.text(max_size=5),
    lambda inner: st.dictionaries(NAMED, inner, min_size=1, max_size=4) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(tree=st.dictionaries(NAMED, NESTED, min_size=1, max_size=4))
def test_the_line_of_each_json_value_is_the_one_its_key_is_on(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object]
) -> None:
    path = tmp_path_factory.mktemp("any") / "c.json"
    path.write_text(json.dumps(tree, indent=1))
    lines = path.read_text().splitlines()
    config = read_config(path, "c.json")
    for entry in config.entries.values():
        last_key = re.split(r"[.\[]", re.sub(r"(\[\d+\])+$", "", entry.key))[-1]
        assert lines[entry.line - 1].lstrip().startswith(f'"{last_key}"'), entry


@settings(max_examples=100, deadline=None)
@given(
    values=st.dictionaries(
        NAMED.map(lambda name: f"arg_{name}"),
        st.integers()
        | st.booleans()
        | st.none()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.lists(st.integers()),
        min_size=5,
    ),
    indent=st.sampled_from(["", "    "]),
)
def test_what_prints_as_name_value_lines_is_read_back(values: dict[str, object], indent: str) -> None:
    """`print(training_args)` prints each argument so, with `str` of its value."""
    lines = [f"{indent}{name}={value},\n" for name, value in values.items()]
    text = f"before\n{indent}TrainingArguments(\n{''.join(lines)}{indent})\nafter = 3,\n"
    found = read_arguments_dump(text)
    assert dict(found.data) == values
    assert [found.places[(name,)][0] for name in values] == list(range(3, 3 + len(values)))
