"""Where each trainer's config has its settings, and how to recognise whose config a file is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_smoke.recipe.configs.file import ConfigFile, Entry
from pytest_smoke.recipe.configs.values import (
    STATE,
    Reading,
    UnclearError,
    View,
    as_clip,
    as_count,
    as_devices,
    as_number,
    as_optimizer,
    as_positive_count,
    as_precision,
    as_rate,
    as_schedule,
    shown,
    warmup_of_ratio,
)
from pytest_smoke.text import listed, number

Reader = Callable[[View], Reading | None]
"""Reads one setting; None if the config does not have it."""

SETTINGS = (
    "world_size",
    "batch_size",
    "grad_accum_steps",
    "effective_batch",
    "learning_rate",
    "lr_schedule",
    "max_steps",
    "warmup_steps",
    "precision",
    "grad_clip_norm",
    "weight_decay",
    "optimizer",
    "loss_weights",
    "data_mix",
    "seed",
)
"""What is read of a config, in the order of reading: the warmup may be a share of the length."""

CONVERT: Mapping[str, Callable[[Entry], Any]] = {
    "world_size": as_devices,
    "batch_size": as_positive_count,
    "grad_accum_steps": as_positive_count,
    "effective_batch": as_positive_count,
    "learning_rate": as_rate,
    "lr_schedule": as_schedule,
    "max_steps": as_positive_count,
    "warmup_steps": as_count,
    "precision": as_precision,
    "grad_clip_norm": as_clip,
    "weight_decay": as_rate,
    "optimizer": as_optimizer,
    "seed": as_count,
}
"""How the value of a setting is converted where its key alone says what it is, as under `keys`."""
OVERRIDES = (*CONVERT, "warmup_ratio")
"""Settings whose keys a recipe may name under `keys`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """The config of one trainer."""

    name: str
    """As `preset:` names it."""
    title: str
    """As messages name it."""
    recognise: Callable[[ConfigFile], str | None]
    """Returns the start of the settings' keys (empty: they are at the top level); None for another trainer's config."""
    readers: Mapping[str, Reader]
    """How to read each setting that such a config may have."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Where the trainer gets a setting from that its config cannot have."""


LAUNCHER = "the launcher sets it, such as torchrun --nproc_per_node"


# Parts of readers.


def one_of(*keys: str, convert: Callable[[Entry], Any], null: bool = False) -> Reader:
    """Read the first of the keys that has a value; with `null`, null is a value."""

    def read(view: View) -> Reading | None:
        entry = view.first(*keys) or (next(filter(None, map(view.get, keys)), None) if null else None)
        return None if entry is None else Reading(value=convert(entry), entry=entry)

    return read


def length(steps: tuple[str, ...], *others: str) -> Reader:
    """Read the number of optimizer steps. Epochs, tokens and samples need the size of the data."""

    def read(view: View) -> Reading | None:
        view.touch(*others)
        entry = view.first(*steps)
        if entry is not None and as_number(entry) > 0:
            return Reading(value=as_count(entry), entry=entry)
        other = view.first(*others)
        if other is not None and (not isinstance(other.value, int | float) or other.value > 0):
            raise UnclearError(_needs_data(other), other)
        return None

    return read


def _needs_data(entry: Entry) -> str:
    if "token" in entry.name:
        formula = f"max_steps = {entry.name} / tokens in one optimizer step"
    elif "sample" in entry.name:
        formula = f"max_steps = {entry.name} / effective batch"
    else:
        formula = f"max_steps = {entry.name} x samples / effective batch"
    return f"{entry.key} is {shown(entry.value)}: how many steps that makes depends on the data; state {formula}"


def warmup(steps: tuple[str, ...], ratios: tuple[str, ...], *others: str) -> Reader:
    """Read the warmup in steps or as a share of the run. As in transformers, steps win unless they are 0."""

    def read(view: View) -> Reading | None:
        view.touch(*ratios, *others)
        entry = view.first(*steps)
        if entry is not None and as_number(entry) >= 1:
            return Reading(value=as_count(entry), entry=entry)
        ratio, other = view.first(*ratios), view.first(*others)
        if entry is not None and as_number(entry) > 0:  # transformers 5 takes a share there
            ratio = entry
        elif entry is not None and ratio is None:
            return Reading(value=as_count(entry), entry=entry)
        if ratio is not None:
            value, note = warmup_of_ratio(ratio, view.known("max_steps"))
            return Reading(value=value, entry=ratio, note=note)
        if other is not None:
            raise UnclearError(_warmup_without_unit(other), other)
        return None

    return read


def _warmup_without_unit(entry: Entry) -> str:
    value = shown(entry.value)
    if "epoch" in entry.name:
        return f"{entry.key} is {value}: state warmup_steps = {entry.name} x optimizer steps in one epoch"
    if "token" in entry.name or "sample" in entry.name:
        return f"{entry.key} is {value}, which is not a number of steps; state warmup_steps"
    return (
        f"{entry.key} is {value}, and may count steps or be a share of them; write keys: {{warmup_steps: {entry.key}}} "
        f"or keys: {{warmup_ratio: {entry.key}}}"
    )


def switches(**of: tuple[str, ...]) -> Reader:
    """Read the precision from switches: `bf16=("bf16",), fp16=("fp16",)`. All of them off means fp32."""

    def read(view: View) -> Reading | None:
        off = []
        for precision, keys in of.items():
            for entry in filter(None, map(view.get, keys)):
                if entry.value == "auto":
                    raise UnclearError(f"{entry.key} is auto, which depends on the GPU; {STATE}", entry)
                if entry.value in (True, "full", "true"):
                    return Reading(value=precision, entry=entry)
                off.append((precision, entry))
        if {precision for precision, _ in off} == set(of):
            return Reading(value="fp32", entry=off[0][1], note=f"{listed(entry.key for _, entry in off)} are off")
        return None

    return read


def numbers_under(*names: str) -> Reader:
    """Read a mapping from names to numbers, whose key is one of `names`, wherever it is."""

    def read(view: View) -> Reading | None:
        groups: dict[str, dict[str, Entry]] = {}
        for entry in view.file.entries.values():
            parent, _, name = entry.key.rpartition(".")
            if parent.rpartition(".")[2] in names and _is_number(entry.value):
                groups.setdefault(parent, {})[name] = entry
        if len(groups) != 1:
            return None
        ((_, entries),) = groups.items()
        values = {name: float(as_number(view.use(entry))) for name, entry in entries.items()}
        return Reading(value=values, entry=next(iter(entries.values())))

    return read


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


WEIGHT_KEYS = ("weight", "sampling_weight", "probability", "prob", "proportion", "ratio", "fraction", "mix_weight")
SOURCE_NAMES = ("name", "path", "dataset", "data_path", "source")


def sources(*mappings: str) -> Reader:
    """Read the weights of data sources: a mapping with one of these names, or lists of sources with a weight each."""
    mapping = numbers_under(*mappings)

    def read(view: View) -> Reading | None:
        found = mapping(view)
        if found is not None:
            return Reading(value=shares(found.value), entry=found.entry)
        weights: dict[str, Entry] = {}
        for entry in view.file.entries.values():
            if entry.name in WEIGHT_KEYS and _is_number(entry.value):
                parent = entry.key.rpartition(".")[0]
                names = (view.file.entries.get(f"{parent}.{name}") for name in SOURCE_NAMES)
                given = next((str(name.value) for name in names if name is not None), None)
                if given is not None or re.search(r"(?:sources|datasets)\.[^.]+$", parent):
                    weights[given or parent.rpartition(".")[2]] = entry
        if len(weights) < 2:
            return None
        values = shares({name: float(as_number(view.use(entry))) for name, entry in weights.items()})
        return Reading(value=values, entry=next(iter(weights.values())))

    return read


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """Return weights relative to their sum: a common factor does not change the mix."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()} if total > 0 else dict(weights)


MIXES = ("dataset_mixer", "dataset_weights", "source_weights", "data_mix", "mixture", "mix", "mixture_weights")

# Configs of unknown trainers: keys are recognised by their last part, wherever they are.

NOT_TRAINING = {
    "eval", "evaluation", "val", "valid", "validation", "test", "inference", "generation", "sampling", "predict",
    "teacher", "ema", "callbacks", "logger", "loggers", "hydra", "logging", "checkpoint", "checkpointing", "save",
    "profiling", "profiler", "metrics", "wandb", "val_dataloader", "eval_dataloader", "test_dataloader",
}  # fmt: skip
"""Sections whose batch sizes, rates and steps are not those of the training."""

Groups = tuple[tuple[str, ...], ...]
"""Names of one setting; those in a later group count only if no key has a name in an earlier one."""

PER_DEVICE: Groups = (
    (
        "per_device_train_batch_size", "per_device_batch_size", "micro_batch_size", "microbatch_size",
        "local_batch_size", "device_batch_size", "batch_size_per_device", "batch_size_per_gpu",
        "train_micro_batch_size_per_gpu", "micro_batch_size_per_gpu", "device_train_microbatch_size",
        "per_gpu_train_batch_size", "samples_per_gpu", "batch_size_per_rank",
    ),
    ("batch_size", "train_batch_size", "bsz", "bs"),
)  # fmt: skip
NAMES: Mapping[str, Groups] = {
    "world_size": (
        ("world_size",),
        ("num_processes", "nproc_per_node", "num_gpus", "n_gpus", "num_devices", "data_parallel_size", "dp_size"),
    ),
    "batch_size": PER_DEVICE,
    "grad_accum_steps": (
        (
            "grad_accum_steps", "gradient_accumulation_steps", "accumulate_grad_batches", "grad_accumulation_steps",
            "gradient_accumulation", "accumulation_steps", "accum_steps", "accum_iter", "grad_accum", "update_freq",
            "batch_accumulation_per_replica",
        ),
    ),
    "effective_batch": (
        ("global_batch_size", "total_batch_size", "effective_batch_size", "effective_batch", "global_train_batch_size"),
    ),
    "learning_rate": (
        ("learning_rate", "lr", "peak_lr", "max_lr", "base_lr", "peak_learning_rate", "max_learning_rate"),
    ),
    "precision": (("precision", "mixed_precision", "amp_dtype", "mixed_precision_param"), ("dtype",)),
    "grad_clip_norm": (
        (
            "grad_clip_norm", "max_grad_norm", "gradient_clip_val", "clip_grad_norm", "grad_clip", "clip_grad",
            "gradient_clipping", "gradient_clip_norm", "grad_norm_clip", "max_norm", "clip_norm", "gradient_clip",
            "clipping_threshold",
        ),
    ),
    "weight_decay": (("weight_decay", "wd"),),
    "seed": (("seed", "random_seed", "seed_everything", "manual_seed", "global_seed"),),
}  # fmt: skip
STEPS = (
    "max_steps", "max_train_steps", "num_train_steps", "num_training_steps", "total_steps", "training_steps",
    "train_steps", "max_iters", "train_iters", "total_iters", "num_steps", "n_steps", "max_updates", "max_update",
    "num_iterations", "iterations", "total_num_steps", "max_duration",
    "steps",
)  # fmt: skip
LENGTHS = (
    "max_epochs", "num_train_epochs", "num_epochs", "epochs", "n_epochs", "train_epochs", "max_epoch", "num_epoch",
    "train_samples", "max_tokens", "total_tokens", "train_tokens", "token_budget",
)  # fmt: skip
WARMUP_STEPS = (
    "warmup_steps", "num_warmup_steps", "warmup_iters", "lr_warmup_iters", "lr_warmup_steps", "warmup_updates",
    "n_warmup_steps", "warmup_num_steps", "warmup_iterations", "t_warmup",
)  # fmt: skip
WARMUP_RATIOS = (
    "warmup_ratio", "warmup_pct", "warmup_fraction", "warmup_frac", "warmup_proportion", "lr_warmup_fraction",
    "pct_start",
)  # fmt: skip
WARMUP_OTHERS = ("warmup_epochs", "lr_warmup_samples", "warmup_samples", "warmup_tokens", "warmup")
SCHEDULE_NAMES = (
    "lr_schedule", "lr_scheduler", "lr_scheduler_type", "lr_decay_style", "scheduler", "scheduler_type", "schedule",
    "schedule_type", "sched", "scheduler_name", "lr_schedule_type", "decay_type",
)  # fmt: skip
OPTIMIZER_NAMES = ("optimizer", "optim", "opt", "optimizer_type", "optimizer_name")
CLASS_KEYS = ("_target_", "_component_", "class_path", "name", "type", "cls")
"""Keys by which a section names the class or function that it configures."""


def anywhere(groups: Groups, convert: Callable[[Entry], Any], *, null: bool = False) -> Reader:
    """Read the key with one of these names, wherever it is. Raises UnclearError if there are several that differ."""

    def read(view: View) -> Reading | None:
        for names in groups:
            entries = [view.use(one) for one in _named(view, names) if null or one.value is not None]
            if entries:
                return Reading(value=_agreed(entries, convert), entry=entries[0])
        return None

    return read


def _agreed(entries: list[Entry], convert: Callable[[Entry], Any]) -> Any:
    values = [convert(entry) for entry in entries]
    other = next((at for at, value in enumerate(values) if value != values[0]), None)
    if other is not None:
        both = (
            f"{entries[0].key} is {shown(entries[0].value)} and {entries[other].key} is {shown(entries[other].value)}"
        )
        raise UnclearError(f"{both}; name the one that counts under keys", entries[other])
    return values[0]


def _named(view: View, names: Iterable[str]) -> Iterator[Entry]:
    wanted = set(names)
    for entry in view.file.entries.values():
        sections = set(re.split(r"[.\[\]]+", entry.key)[:-1])
        if entry.name in wanted and entry.key.startswith(view.prefix) and not NOT_TRAINING & sections:
            yield entry


def _of_class(names: tuple[str, ...], convert: Callable[[Entry], Any]) -> Reader:
    """Read a name that is the value of such a key, or that the section with such a key names its class by."""

    def read(view: View) -> Reading | None:
        entries = [one for one in _named(view, names) if isinstance(one.value, str)]
        sections = [
            one
            for one in _named(view, CLASS_KEYS)
            if isinstance(one.value, str) and one.key.rpartition(".")[0].rpartition(".")[2] in names
        ]
        found = [view.use(one) for one in entries + sections]
        return Reading(value=_agreed(found, convert), entry=found[0]) if found else None

    return read


_class_schedule = _of_class(SCHEDULE_NAMES, as_schedule)


def _plain_schedule(view: View) -> Reading | None:
    """Read the schedule by its name, or nanoGPT's switch between a cosine and a constant rate."""
    found = _class_schedule(view)
    if found is None:
        switch = next((view.use(one) for one in _named(view, ("decay_lr",)) if isinstance(one.value, bool)), None)
        if switch is not None:
            return Reading(value="cosine" if switch.value else "constant", entry=switch)
    return found


def _keys_of(view: View, names: Iterable[str]) -> tuple[str, ...]:
    """Return the keys, without the view's prefix, that have one of the names. Several that differ are an error."""
    entries = list(_named(view, names))
    if len({str(one.value) for one in entries if one.value is not None}) > 1:
        _agreed(entries, lambda entry: entry.value)
    return tuple(one.key.removeprefix(view.prefix) for one in entries)


def _plain_length(view: View) -> Reading | None:
    steps = _keys_of(view, STEPS[:-1]) or _keys_of(view, STEPS[-1:])
    return length(steps, *_keys_of(view, LENGTHS))(view)


def _plain_warmup(view: View) -> Reading | None:
    steps, ratios, others = (_keys_of(view, names) for names in (WARMUP_STEPS, WARMUP_RATIOS, WARMUP_OTHERS))
    return warmup(steps, ratios, *others)(view)


def _plain_precision(view: View) -> Reading | None:
    found = anywhere(NAMES["precision"], as_precision)(view)
    if found is not None:
        return found
    switched = {one: _keys_of(view, (one,)) for one in ("bf16", "fp16")}
    for key in _keys_of(view, ("enabled",)):  # DeepSpeed's `bf16: {enabled: true}`
        section = key.removesuffix(".enabled").rpartition(".")[2]
        if section in switched:
            switched[section] = (*switched[section], key)
    return switches(**switched)(view)


_by_name = {
    name: anywhere(groups, CONVERT[name], null=name == "grad_clip_norm")
    for name, groups in NAMES.items()
    if name != "precision"
}
_PLAIN_READERS: Mapping[str, Reader] = {
    **_by_name,
    "lr_schedule": _plain_schedule,
    "max_steps": _plain_length,
    "warmup_steps": _plain_warmup,
    "precision": _plain_precision,
    "optimizer": _of_class(OPTIMIZER_NAMES, as_optimizer),
    "loss_weights": numbers_under("loss_weights", "loss_weight", "loss_coefficients", "loss_coefs"),
    "data_mix": sources(*MIXES),
}


# Hugging Face, and the trainers on top of it.

HF_SIGNATURE = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "lr_scheduler_type",
    "num_train_epochs",
    "max_grad_norm",
    "warmup_ratio",
    "logging_steps",
)
LLAMA_FACTORY_KEYS = ("finetuning_type", "cutoff_len", "template", "stage", "dataset_dir")
AXOLOTL_KEYS = ("base_model", "sequence_len", "datasets", "sample_packing", "num_epochs", "adapter", "val_set_size")
_EITHER = anywhere(NAMES["world_size"], as_devices)


def _prefix_of(config: ConfigFile, keys: tuple[str, ...], least: int) -> str | None:
    """Return the prefix under which at least so many of the keys are; the shortest one if there are several."""
    counts: dict[str, int] = {}
    for entry in config.entries.values():
        if entry.name in keys:
            prefix = entry.key[: len(entry.key) - len(entry.name)]
            counts[prefix] = counts.get(prefix, 0) + 1
    fitting = sorted((prefix for prefix, count in counts.items() if count >= least), key=lambda one: (len(one), one))
    return fitting[0] if fitting else None


def _is_hf(config: ConfigFile) -> str | None:
    prefix = _hf_prefix(config)
    if prefix is None or f"{prefix}micro_batch_size" in config.entries:
        return None
    return prefix if _is_llama_factory(config) is None else None


def _hf_prefix(config: ConfigFile) -> str | None:
    """Return where the per-device batch is, or at least two other arguments without another trainer's batch."""
    prefix = _prefix_of(config, HF_SIGNATURE[:1], 1)
    if prefix is not None:
        return prefix
    prefix = _prefix_of(config, HF_SIGNATURE, 2)
    batches = (name for names in PER_DEVICE for name in names)
    return None if any(f"{prefix}{name}" in config.entries for name in batches) else prefix


def _is_llama_factory(config: ConfigFile) -> str | None:
    prefix = _hf_prefix(config)
    if prefix is None:
        return None
    return prefix if sum(f"{prefix}{key}" in config.entries for key in LLAMA_FACTORY_KEYS) >= 2 else None


def _is_axolotl(config: ConfigFile) -> str | None:
    tops = {re.split(r"[.\[]", key)[0] for key in config.entries}
    return "" if "micro_batch_size" in tops and any(key in tops for key in AXOLOTL_KEYS) else None


def _hf_world(view: View) -> Reading | None:
    found = _EITHER(view)
    if found is not None:
        return found
    rank, gpus = view.get("local_rank"), view.get("_n_gpu")
    if rank is not None and gpus is not None and rank.value == -1:  # a single process, which may use several GPUs
        return Reading(value=max(1, as_count(gpus)), entry=gpus)
    return None


def _hf_batch(view: View) -> Reading | None:
    auto = view.get("auto_find_batch_size")
    if auto is not None and auto.value is True:
        raise UnclearError(f"{auto.key} is true, with which the trainer may halve the batch; {STATE}", auto)
    return one_of("per_device_train_batch_size", "per_gpu_train_batch_size", convert=as_positive_count)(view)


_hf_steps = warmup(("warmup_steps", "num_warmup_steps"), ("warmup_ratio",))
_hf_switches = switches(bf16=("bf16",), fp16=("fp16",))
_accelerate_precision = one_of("mixed_precision", convert=as_precision)


def _hf_precision(view: View) -> Reading | None:
    """Read the switches of the Trainer, or the precision that scripts of their own pass to Accelerate."""
    return _hf_switches(view) or _accelerate_precision(view)


def _hf_warmup(view: View) -> Reading | None:
    """Read the warmup. The scheduler `constant` of transformers has none, whatever the arguments say."""
    schedule = view.first("lr_scheduler_type", "lr_scheduler")
    if schedule is not None and str(schedule.value).rpartition(".")[2].lower() == "constant":
        view.touch("warmup_steps", "warmup_ratio")
        return Reading(
            value=0, entry=schedule, note="the scheduler `constant` ignores warmup; use constant_with_warmup"
        )
    return _hf_steps(view)


def _hf_optimizer(view: View) -> Reading | None:
    adafactor = view.get("adafactor")
    if adafactor is not None and adafactor.value is True:
        return Reading(value="adafactor", entry=adafactor)
    return one_of("optim", "optimizer", convert=as_optimizer)(view)


def _llama_factory_mix(view: View) -> Reading | None:
    """Read `interleave_probs: 0.5,0.5` with the names in `dataset`, both with commas."""
    entry, names = view.first("interleave_probs"), view.first("dataset")
    if entry is None or names is None:
        return sources(*MIXES)(view)
    parts = [_listed_values(one.value) for one in (names, entry)]
    if len(parts[0]) != len(parts[1]):
        text = f"{entry.key} has {len(parts[1])} values and {names.key} {len(parts[0])} names; give each dataset one"
        raise UnclearError(text, entry)
    try:
        weights = {name: float(value) for name, value in zip(*parts, strict=True)}
    except ValueError:
        raise UnclearError(f"{entry.key} is {shown(entry.value)}, which is not a list of numbers", entry) from None
    return Reading(value=shares(weights), entry=entry)


def _listed_values(value: Any) -> list[str]:
    return [str(part).strip() for part in (value if isinstance(value, list) else str(value).split(","))]


_HF_READERS: Mapping[str, Reader] = {
    "world_size": _hf_world,
    "batch_size": _hf_batch,
    "grad_accum_steps": one_of("gradient_accumulation_steps", convert=as_positive_count),
    "learning_rate": one_of("learning_rate", convert=as_rate),
    "lr_schedule": one_of("lr_scheduler_type", convert=as_schedule),
    "max_steps": length(("max_steps", "max_train_steps"), "num_train_epochs"),
    "warmup_steps": _hf_warmup,
    "precision": _hf_precision,
    "grad_clip_norm": one_of("max_grad_norm", convert=as_clip, null=True),
    "weight_decay": one_of("weight_decay", convert=as_rate),
    "optimizer": _hf_optimizer,
    "loss_weights": _PLAIN_READERS["loss_weights"],
    "data_mix": sources(*MIXES),
    "seed": one_of("seed", convert=as_count),
}
_AXOLOTL_READERS: Mapping[str, Reader] = {
    **_HF_READERS,
    "batch_size": one_of("micro_batch_size", convert=as_positive_count),
    "lr_schedule": one_of("lr_scheduler", convert=as_schedule),
    "max_steps": length(("max_steps",), "num_epochs"),
    "precision": switches(bf16=("bf16", "bfloat16"), fp16=("fp16", "float16")),
    "optimizer": one_of("optimizer", convert=as_optimizer),
}


# torchtitan.

TORCHTITAN_KEYS = (
    "training.steps", "training.seq_len", "training.local_batch_size", "training.max_norm", "lr_scheduler.warmup_steps",
    "lr_scheduler.decay_ratio", "lr_scheduler.decay_type", "parallelism.data_parallel_shard_degree",
    "parallelism.tensor_parallel_degree", "job.dump_folder", "model.flavor", "optimizer.lr",
)  # fmt: skip


def _is_torchtitan(config: ConfigFile) -> str | None:
    return "" if sum(key in config.entries for key in TORCHTITAN_KEYS) >= 4 else None


def _titan_world(view: View) -> Reading | None:
    keys = ("parallelism.data_parallel_replicate_degree", "parallelism.data_parallel_shard_degree")
    replicate, shard = (view.first(key) for key in keys)
    for entry in (replicate, shard):
        if entry is not None and as_count(entry) < 1:
            text = f"{entry.key} is {shown(entry.value)}: all devices that the launcher starts; {STATE}"
            raise UnclearError(text, entry)
    if replicate is None or shard is None:
        given = replicate or shard
        if given is None:
            return _EITHER(view)
        other = keys[0 if replicate is None else 1]
        text = f"{given.key} is {shown(given.value)}, but {other} is not set; state both, or world_size"
        raise UnclearError(text, given)
    note = f"{replicate.key} {replicate.value} x {shard.key} {shard.value}"
    return Reading(value=as_count(replicate) * as_count(shard), entry=shard, note=note)


def _titan_effective(view: View) -> Reading | None:
    entry = view.first("training.global_batch_size")
    return None if entry is None or as_count(entry) < 1 else Reading(value=as_count(entry), entry=entry)


def _titan_accumulation(view: View) -> Reading | None:
    """Read the accumulation: none if the global batch is -1. It is computed from a global batch that is a number."""
    entry = view.first("training.global_batch_size")
    if entry is None:
        return one_of("training.gradient_accumulation_steps", convert=as_positive_count)(view)
    return Reading(value=1, entry=entry, note="no accumulation") if as_count(entry) < 1 else None


def _titan_schedule(view: View) -> Reading | None:
    ratio, shape = view.first("lr_scheduler.decay_ratio"), view.first("lr_scheduler.decay_type")
    if ratio is not None and 0 < as_number(ratio) < 1:
        return Reading(value="wsd", entry=ratio, note=f"{ratio.key} {number(as_rate(ratio))}")
    if ratio is not None and as_number(ratio) == 0:
        return Reading(value="constant", entry=ratio)
    return None if shape is None else Reading(value=as_schedule(shape), entry=shape)


_TORCHTITAN_READERS: Mapping[str, Reader] = {
    "world_size": _titan_world,
    "batch_size": one_of("training.local_batch_size", "training.batch_size", convert=as_positive_count),
    "effective_batch": _titan_effective,
    "grad_accum_steps": _titan_accumulation,
    "learning_rate": one_of("optimizer.lr", convert=as_rate),
    "lr_schedule": _titan_schedule,
    "max_steps": one_of("training.steps", convert=as_positive_count),
    "warmup_steps": one_of("lr_scheduler.warmup_steps", "training.warmup_steps", convert=as_count),
    "precision": one_of("training.mixed_precision_param", "training.dtype", convert=as_precision),
    "grad_clip_norm": one_of("training.max_norm", convert=as_clip, null=True),
    "weight_decay": one_of("optimizer.weight_decay", convert=as_rate),
    "optimizer": one_of("optimizer.name", convert=as_optimizer),
    "data_mix": sources(*MIXES),
    "seed": one_of("training.seed", "debug.seed", convert=as_count),
}


# Lightning.

LIGHTNING_KEYS = (
    "max_epochs", "max_steps", "accumulate_grad_batches", "devices", "accelerator", "precision", "gradient_clip_val",
    "num_nodes", "strategy", "log_every_n_steps",
)  # fmt: skip


def _is_lightning(config: ConfigFile) -> str | None:
    """Recognise `trainer:` of Lightning, which Hydra's configs have, too."""
    count = sum(any(entry.startswith(f"trainer.{key}") for entry in config.entries) for key in LIGHTNING_KEYS)
    return (
        ""
        if count >= 2 and not any(entry.endswith("per_device_train_batch_size") for entry in config.entries)
        else None
    )


def _lightning_world(view: View) -> Reading | None:
    devices, nodes = view.first("trainer.devices"), view.first("trainer.num_nodes")
    if devices is None:
        return _EITHER(view)
    count = as_devices(devices)
    if nodes is None:
        return Reading(value=count, entry=devices) if count == 1 else _without_nodes(devices)
    return Reading(value=count * as_positive_count(nodes), entry=devices, note=f"{count} x num_nodes {nodes.value}")


def _without_nodes(devices: Entry) -> Reading:
    raise UnclearError(f"{devices.key} is {shown(devices.value)}, but trainer.num_nodes is not set; state it", devices)


def _lightning_accumulation(view: View) -> Reading | None:
    """Read the accumulation; NeMo, which requires 1, computes it from `model.global_batch_size`."""
    found = one_of("trainer.accumulate_grad_batches", convert=as_positive_count)(view)
    is_nemo = view.file.entries.get("model.global_batch_size") is not None
    return None if is_nemo and found is not None and found.value == 1 else found


def _lightning_clip(view: View) -> Reading | None:
    found = one_of("trainer.gradient_clip_val", convert=as_clip, null=True)(view)
    by = view.first("trainer.gradient_clip_algorithm")
    if found is not None and found.value is not None and by is not None and by.value != "norm":
        raise UnclearError(f"{by.key} is {shown(by.value)}: values are clipped, not the norm; a recipe has no such", by)
    return found


_LIGHTNING_READERS: Mapping[str, Reader] = {
    **_PLAIN_READERS,
    "world_size": _lightning_world,
    "grad_accum_steps": _lightning_accumulation,
    "max_steps": length(("trainer.max_steps",), "trainer.max_epochs"),
    "precision": one_of("trainer.precision", convert=as_precision),
    "grad_clip_norm": _lightning_clip,
    "seed": lambda view: one_of("seed_everything", convert=as_count)(view) or _by_name["seed"](view),
}


def _is_hydra(config: ConfigFile) -> str | None:
    has_target = any(entry.name == "_target_" for entry in config.entries.values())
    return (
        ""
        if has_target or "/.hydra/" in f"/{config.path}" or any(key.startswith("hydra.") for key in config.entries)
        else None
    )


PRESETS: tuple[Preset, ...] = (
    Preset(
        name="huggingface",
        title="Hugging Face",
        recognise=_is_hf,
        readers=_HF_READERS,
        elsewhere={"world_size": LAUNCHER},
    ),
    Preset(
        name="llama-factory",
        title="LLaMA-Factory",
        recognise=_is_llama_factory,
        readers={**_HF_READERS, "data_mix": _llama_factory_mix},
        elsewhere={"world_size": LAUNCHER},
    ),
    Preset(
        name="axolotl",
        title="axolotl",
        recognise=_is_axolotl,
        readers=_AXOLOTL_READERS,
        elsewhere={"world_size": LAUNCHER},
    ),
    Preset(
        name="torchtitan",
        title="torchtitan",
        recognise=_is_torchtitan,
        readers=_TORCHTITAN_READERS,
        elsewhere={"world_size": LAUNCHER},
    ),
    Preset(name="lightning", title="Lightning", recognise=_is_lightning, readers=_LIGHTNING_READERS),
    Preset(name="hydra", title="Hydra", recognise=_is_hydra, readers=_PLAIN_READERS),
    Preset(name="plain", title="plain", recognise=lambda _: "", readers=_PLAIN_READERS),
)
"""Presets, the special ones first. `hydra` and `plain` count only if no special one recognises the file."""
SPECIAL = PRESETS[:5]
PRESET_NAMES = tuple(preset.name for preset in PRESETS)
