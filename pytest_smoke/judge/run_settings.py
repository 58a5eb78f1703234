"""The settings of one run, whether a trainer's config states them or a recipe does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.configs.presets import shares
from pytest_smoke.recipe.configs.settings import FACTORS, TrainerConfig
from pytest_smoke.recipe.model import Settings

Role = Literal["full", "smoke"]
RECIPE = "recipe"
"""What stands in place of a preset's name for settings that a recipe states."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """The value of a setting, and where it is stated."""

    value: Any
    place: str
    """`full.yml:12 (optimizer.lr)`, or the option or default that it comes from."""
    note: str = ""
    """How it was computed; empty if it is written as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The settings of a full run or of a smoke run."""

    path: str
    """The file that states them, as messages name it."""
    trainer: str
    """Whose config it is, for messages."""
    preset: str
    """Name of the preset, or `recipe`."""
    values: Mapping[str, Stated]
    """Settings that are stated, by the names in `presets.SETTINGS`."""
    unclear: Mapping[str, str] = field(default_factory=dict)
    """Settings that the file has in a form from which they cannot be known: where, and why."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Where the trainer gets settings from that its config cannot have."""
    config: TrainerConfig | None = None
    """The config; None for a recipe that reads none."""
    case: Case | None = None
    """The recipe's smoke run; None for a config."""

    def value(self, setting: str) -> Any:
        """Return the value of a setting; None if it is not known."""
        stated = self.values.get(setting)
        return stated and stated.value

    @property
    def effective_batch(self) -> int | None:
        """Samples in one optimizer step; None if it is not known."""
        if set(self.unclear) & {*FACTORS, "effective_batch"}:
            return None
        factors = [self.value(key) for key in FACTORS]
        if None not in factors:
            return int(factors[0] * factors[1] * factors[2])
        whole = self.value("effective_batch")
        return None if whole is None else int(whole)


def of_config(config: TrainerConfig, options: Mapping[str, Stated]) -> RunSettings:
    """Return the settings of a config, completed by those that the command line states."""
    values = {
        key: Stated(value=reading.value, place=config.place(key), note=reading.note)
        for key, reading in config.values.items()
    }
    unclear = {
        key: f"{config.file.path}:{error.entry.line}: {error.text}"
        for key, error in config.unclear.items()
        if key not in options
    }
    return RunSettings(
        path=config.file.path,
        trainer=config.title,
        preset=config.preset,
        values={**values, **options},
        unclear=unclear,
        elsewhere=config.elsewhere,
        config=config,
    )


def of_case(case: Case, role: Role, options: Mapping[str, Stated]) -> RunSettings:
    """Return the settings of a recipe's full run or of its smoke run, completed by those of the command line."""
    settings = case.full if role == "full" else case.settings
    values = {key: Stated(value=getattr(settings, key), place=_place(case, role, key)) for key in _OF_RECIPE}
    if not settings.loss_weights:
        del values["loss_weights"]  # the task's own weights
    if not case.is_complete:
        own = {*case.recipe.repeated, *(case.declared if role == "smoke" else ())}
        known = own | {"max_steps", "lr_schedule"} if role == "smoke" else own
        values = {key: stated for key, stated in values.items() if key in known}
    values |= _beside(case, role)
    return RunSettings(
        path=case.path,
        trainer=RECIPE,
        preset=RECIPE,
        values={**values, **options},
        elsewhere={}
        if case.is_complete
        else dict.fromkeys(_OF_RECIPE, f"set by the trainer of `{case.recipe.trainer}`"),
        config=case.configs.get(role),
        case=case,
    )


_OF_RECIPE = tuple(key for key in Settings.model_fields if key != "from_scratch")


def _place(case: Case, role: Role, key: str) -> str:
    """Name the place of a recipe's setting: in the role's section, in `full` for what is inherited, or its default."""
    sections = ("full",) if role == "full" else ("smoke", "full")
    found = next((section for section in sections if f"{section}.{key}" in case.places), None)
    if found is None or (role == "smoke" and key in ("max_steps", "lr_schedule") and found == "full"):
        return f"{case.path} ({'the mode ' + case.mode if key == 'lr_schedule' else 'default of ' + key})"
    place, config = case.places[f"{found}.{key}"], case.configs.get(found)
    if config is not None and key in config.values and place == config.place(key).partition(" ")[0]:
        return config.place(key)
    return f"{place} ({found}.{key})"


def _beside(case: Case, role: Role) -> dict[str, Stated]:
    """Return settings that a recipe has elsewhere than in `full`: seed, weight decay, data mix."""
    found: dict[str, Stated] = {}
    config = case.configs.get(role) or case.configs.get("full")
    for key in ("optimizer", "weight_decay", "data_mix", "seed"):
        if config is not None and key in config.values:
            found[key] = Stated(value=config.value(key), place=config.place(key))
    args = {**case.recipe.args, **(case.recipe.smoke.args if role == "smoke" else {})}
    decay = args.get("weight_decay")
    if isinstance(decay, int | float) and not isinstance(decay, bool):
        found["weight_decay"] = Stated(value=decay, place=f"{case.places.get('args.weight_decay', case.path)} (args)")
    mix = case.recipe.mix
    if mix is not None and all(source.rows is not None for source in mix.sources.values()):
        weights = {name: (source.rows or 0) * source.weight for name, source in mix.sources.items()}
        found["data_mix"] = Stated(value=shares(weights), place=f"{case.places.get('mix.sources', case.path)} (mix)")
    if role == "smoke" and "smoke.seed" in case.places:
        found["seed"] = Stated(value=case.recipe.smoke.seed, place=f"{case.places['smoke.seed']} (smoke.seed)")
    return found
