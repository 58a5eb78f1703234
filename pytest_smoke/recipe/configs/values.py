"""Turn the values of other trainers' configs into those of a recipe: numbers, schedules, precisions, optimizers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from pytest_smoke.plain import MAX_INT, safe_repr
from pytest_smoke.recipe.configs.file import ConfigFile, Entry
from pytest_smoke.recipe.configs.python_text import Expression
from pytest_smoke.text import number

Number = int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A setting that a config states."""

    value: Any
    """The value as a recipe has it."""
    entry: Entry
    """Where it is written."""
    note: str = ""
    """How it was computed, if the config has it in another unit: `warmup_ratio 0.1 x 5000 steps`."""


class UnclearError(Exception):
    """A config has a setting whose value cannot be known from the file. The message says why, and what would tell."""

    def __init__(self, text: str, entry: Entry) -> None:
        super().__init__(text)
        self.text = text
        self.entry = entry


@dataclass(slots=True, kw_only=True)
class View:
    """A config during reading: the part of it that holds the settings, and which keys were looked at."""

    file: ConfigFile
    prefix: str = ""
    """Start of the keys of all settings, with its dot: `training_args.`, or empty."""
    stated: Mapping[str, Any] = field(default_factory=dict)
    """Settings that are known from elsewhere, such as a recipe."""
    used: set[str] = field(default_factory=set)
    """Keys that some setting was read from."""
    found: dict[str, Reading] = field(default_factory=dict)
    """Settings that were read so far."""

    def get(self, key: str) -> Entry | None:
        """Return an entry, or None if the config lacks it. Raises UnclearError if its value is not a literal one."""
        entry = self.file.entries.get(self.prefix + key)
        return entry and self.use(entry)

    def first(self, *keys: str) -> Entry | None:
        """Return the first of these entries that has a value."""
        entries = [self.get(key) for key in keys]
        return next((entry for entry in entries if entry is not None and entry.value is not None), None)

    def touch(self, *keys: str) -> None:
        """Note that these entries belong to a setting, whatever their values are."""
        self.used |= {self.prefix + key for key in keys} & self.file.entries.keys()

    def use(self, entry: Entry) -> Entry:
        """Note that a setting was read from the entry. Raises UnclearError if its value is not a literal one."""
        self.used.add(entry.key)
        value = entry.value
        if isinstance(value, Expression):
            raise UnclearError(f"{entry.key} is the expression {value}, which is not executed; {STATE}", entry)
        if isinstance(value, str) and "${" in value:
            text = (
                f"{entry.key} is {value}, which is not resolved; save the resolved config "
                "(OmegaConf.save with resolve=True, or --cfg job --resolve)"
            )
            raise UnclearError(text, entry)
        if value == "???":
            raise UnclearError(f"{entry.key} is ???, which must be set when the trainer is started; {STATE}", entry)
        return entry

    def known(self, setting: str) -> Any:
        """Return a setting that was read before or is known from elsewhere; None if it is neither."""
        reading = self.found.get(setting)
        return reading.value if reading is not None else self.stated.get(setting)


STATE = "state the value itself"


def as_number(entry: Entry) -> Number:
    """Return the entry's value as a number; a text that spells one counts. Raises UnclearError."""
    value = entry.value
    if isinstance(value, str):
        value = re.sub(r"^(\d+)ba$", r"\1", value)  # batches, which are optimizer steps in Composer
        with contextlib.suppress(ValueError):
            value = float(value) if re.search(r"[.eEn]", value) else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnclearError(f"{entry.key} is {shown(value)}, which is not a number; {STATE}", entry)
    if isinstance(value, int) and abs(value) >= MAX_INT:
        raise UnclearError(f"{entry.key} is a number of more than 18 digits; {STATE}", entry)
    return value


def as_count(entry: Entry) -> int:
    """Return the entry's value as a whole number. Raises UnclearError."""
    value = as_number(entry)
    if value != value or abs(value) == float("inf") or value != int(value):
        raise UnclearError(f"{entry.key} is {number(value)}, which is not a whole number; {STATE}", entry)
    return int(value)


def as_positive_count(entry: Entry) -> int:
    """Return the entry's value as a whole number of 1 or more. Raises UnclearError."""
    value = as_count(entry)
    if value < 1:
        raise UnclearError(f"{entry.key} is {value}, with which the trainer decides when it starts; {STATE}", entry)
    return value


def as_rate(entry: Entry) -> float:
    """Return the entry's value as a float. Raises UnclearError."""
    return float(as_number(entry))


def as_clip(entry: Entry) -> float | None:
    """Return the largest gradient norm; None (no clipping) for null, false and 0. Raises UnclearError."""
    if entry.value is None or entry.value is False:
        return None
    return as_rate(entry) or None


_SCHEDULES: tuple[tuple[str, str], ...] = (
    (r"restart|cyclic|plateau|step|expon|cosine_?hard|lambda|none", "other"),
    (r"wsd|warmup_?stable_?decay|trapez", "wsd"),
    (r"one_?cycle", "one-cycle"),
    (r"inv\w*_?sq\w*|rsqrt|noam", "inverse-sqrt"),
    (r"cosine", "cosine"),
    (r"poly", "polynomial"),
    (r"^linear_?lr$", "other"),
    (r"^warmup_?decay_?lr$", "linear"),
    (r"^warmup_?lr$", "constant"),
    (r"constant|^flat$|^fixed$", "constant"),
    (r"linear", "linear"),
)
"""Schedules by a pattern in their names, which are in lower case. torch's `LinearLR` is a ramp, DeepSpeed's
`WarmupLR` a warmup to a constant rate."""


def as_schedule(entry: Entry) -> str:
    """Return the name of a schedule as recipes have it; `other` for one without a name here. Raises UnclearError."""
    if not isinstance(entry.value, str):
        raise UnclearError(f"{entry.key} is {shown(entry.value)}, which names no schedule; {STATE}", entry)
    name = entry.value.rpartition(".")[2].lower().replace("-", "_")
    return next((ours for pattern, ours in _SCHEDULES if re.search(pattern, name)), "other")


_PRECISIONS = {
    "bf16": ("bf16", "bfloat16", "bf16_mixed", "bf16_true", "amp_bf16", "torch.bfloat16"),
    "fp16": ("fp16", "float16", "16", "16_mixed", "16_true", "amp_fp16", "half", "torch.float16"),
    "fp32": ("fp32", "float32", "32", "32_true", "no", "false", "full", "float", "torch.float32"),
}


def as_precision(entry: Entry) -> str:
    """Return a precision as recipes have it. Raises UnclearError."""
    name = str(entry.value).lower().replace("-", "_")
    for ours, names in _PRECISIONS.items():
        if name in names:
            return ours
    raise UnclearError(f"{entry.key} is {shown(entry.value)}, which is neither fp32, bf16 nor fp16; {STATE}", entry)


_SAME_UPDATE = {"torch", "hf", "fused", "foreach", "xla", "npu", "apex"}
"""Parts of an optimizer's name that say how it is implemented, not what it computes."""


def as_optimizer(entry: Entry) -> str:
    """Return the name of an optimizer without its module and implementation: `adamw` for `adamw_torch_fused`."""
    name = str(entry.value).rpartition(".")[2].lower().replace("-", "_")
    return "_".join(part for part in name.split("_") if part not in _SAME_UPDATE) or name


def as_devices(entry: Entry) -> int:
    """Return how many devices `devices` names: a number, a list of indices, or `"0,1"`. Raises UnclearError."""
    value = entry.value
    if isinstance(value, list) and value:
        return len(value)
    if isinstance(value, str) and "," in value:
        return len([part for part in value.split(",") if part.strip()])
    if isinstance(value, str) and value in ("auto", "all", "gpu"):
        raise UnclearError(f"{entry.key} is {value}: all devices of the machine; {STATE}", entry)
    return as_positive_count(entry)


def warmup_of_ratio(entry: Entry, max_steps: object) -> tuple[int, str]:
    """Return the warmup steps that a share of the run makes, and how they were computed. Raises UnclearError."""
    ratio = as_rate(entry)
    if not ratio:
        return 0, ""
    if not isinstance(max_steps, int) or isinstance(max_steps, bool):
        text = f"{entry.key} is {number(ratio)} of a length that is not known; state max_steps, or warmup_steps itself"
        raise UnclearError(text, entry)
    return ceil(max_steps * ratio), f"{entry.key} {number(ratio)} x {max_steps:,} steps"


def shown(value: object) -> str:
    """Format a config's value for a message."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return number(value, 6)
    if isinstance(value, str):
        return (
            value
            if re.fullmatch(r"[\w.:/+-]{1,60}", value)
            else repr(value if len(value) <= 60 else value[:57] + "...")
        )
    text = safe_repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
