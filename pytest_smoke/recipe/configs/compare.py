"""Compare what two configs of one trainer say beyond the settings that recipes have: model, data, optimizer details."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pytest_smoke.recipe.configs.file import Entry
from pytest_smoke.recipe.configs.settings import TrainerConfig

Effect = Literal["shapes", "none", "unknown"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BESIDE_TRAINING = _words(
    "eval evaluation evaluations evaluate val valid validation test predict prediction predictions best greater "
    "log logs logging logger loggers logdir wandb tensorboard mlflow comet swanlab report tracker trackers tags "
    "notes save saves saving saved hub push run project entity outputs description print plot tqdm progress "
    "verbose display workers worker proc pin prefetch persistent profile profiler profiling metrics monitor "
    "timeout resume callbacks hydra disable do every node nodes gpu gpus cpu cuda mps ddp deepspeed fsdp "
    "parallelism accelerator backend machine cudnn deterministic benchmark compile flash checkpointing "
    "implementation fused wall host port device devices summary registry seen evals trackio determinism "
    "multiprocessing inference anomaly barebones autolog early patience xformers sdpa liger kernel kernels trust "
    "strict gc freq fault memory estimation processes cached"
)
"""Words in keys of what is measured, stored or displayed, and of where the training runs."""
SHAPES_TRAINING = _words(
    "model base hidden layer layers head heads dim depth width embed embedding embd ffn lora peft adapter dropout "
    "drop seq sequence length len cutoff block vocab token tokens tokenizer data dataset datasets mix mixture "
    "mixer source sources weight weights norm init freeze frozen unfreeze label labels smoothing optim optimizer "
    "beta beta1 beta2 betas eps epsilon momentum nesterov decay ema loss losses batch batches quant quantization "
    "bit bits 4bit 8bit dtype tf32 rope pack packing template mask noise neftune aug augment augmentation "
    "curriculum temperature resolution image patch lr learning samples split shuffle finetuning stage group "
    "classes reward ref alpha gamma target targets modules r sampling sampler batchnorm inputs unfrozen rl "
    "quantize float8 fp8 precision columns average rank alpha_f augmentations balance oversample undersample"
)
"""Words in keys of what the gradients depend on."""
SURELY_SHAPES = re.compile(
    r"(^|[._])(lora|mix|mixture|mixer|average|initial|pretrained)(?=[._]|$)|(^|\.)split_batches$"
)
"""Keys that shape the training whatever other words they have: `mix_strategy`, `lora_modules_to_save`."""
STORAGE = _words("dir path folder name cache dump checkpoint debug file")
"""Words in keys of files and names; `data_path` shapes the training by its other word."""
OF_SCHEDULE = _words("scheduler schedule anneal annealing eta min_lr t_max decay_ratio decay_type lr_decay")
"""Words and keys of the schedule's shape, which the mode of the smoke run sets."""
NO_EFFECT = re.compile(
    r"(^|\.)(output_dir|output_path|output_folder|dataset_prepared_path|overwrite_\w+|\w*cache\w*|local_rank|max_time"
    r"|(min|max)_(epochs|steps)|strategy(\.[\w.]+)?|wandb_\w+|eval_\w+|hub_\w+)$"
)
"""Keys of outputs, of the length, and of how devices share the work."""
SECTIONS = frozenset(("train", "trainer", "training", "args", "init_args", "training_args", "params"))
"""Parts of keys that say nothing of what is in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDifference:
    """A key that two configs of one trainer do not have with the same value."""

    key: str
    effect: Effect
    """Whether it shapes the training, as far as its name tells."""
    first: Entry | None
    second: Entry | None


def key_differences(first: TrainerConfig, second: TrainerConfig) -> Iterator[KeyDifference]:
    """Yield the keys that differ, without those of settings that were read, and without those that have no effect.

    Keys are compared only between configs of the same trainer. A key with null counts as absent.
    """
    if first.preset != second.preset:
        return
    ours, theirs = (
        {key: one for key, one in config.file.entries.items() if key not in config.used and one.value is not None}
        for config in (first, second)
    )
    for key in dict.fromkeys((*ours, *theirs)):
        if key in first.used or key in second.used:
            continue
        one, other = ours.get(key), theirs.get(key)
        if one is None or other is None or not _same(one.value, other.value):
            effect = effect_of(key)
            if effect != "none":
                yield KeyDifference(key=key, effect=effect, first=one, second=other)


def effect_of(key: str) -> Effect:
    """Tell whether the key of a config shapes the training, as far as its name tells."""
    name = re.sub(r"\[\d+\]", "", key).lower()
    if NO_EFFECT.search(name):
        return "none"
    if SURELY_SHAPES.search(name):
        return "shapes"
    parts = [part for part in name.split(".") if part not in SECTIONS]
    words = {word for part in parts for word in re.split(r"[_\-/]", part)}
    if OF_SCHEDULE & (words | set(parts)) or words & BESIDE_TRAINING:
        return "none"
    if words & SHAPES_TRAINING:
        return "shapes"
    return "none" if words & STORAGE else "unknown"


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    return bool(first == second)
