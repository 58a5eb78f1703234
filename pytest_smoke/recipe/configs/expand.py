"""Replace `from` in a recipe's `full` and `smoke` by the settings of the config files that it names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_smoke.errors import Fault, RecipeError
from pytest_smoke.recipe.configs.file import read_config
from pytest_smoke.recipe.configs.presets import PRESET_NAMES
from pytest_smoke.recipe.configs.settings import ConfigKeyError, TrainerConfig, read_settings
from pytest_smoke.recipe.configs.values import shown
from pytest_smoke.recipe.explain import Keys, Problem, described
from pytest_smoke.recipe.model import SELF_DESCRIBING
from pytest_smoke.recipe.yaml_document import REFUSED
from pytest_smoke.text import did_you_mean, listed

SECTIONS = ("full", "smoke")
SPEC = ("from", "keys", "preset")
"""Keys of a section that say what to read, and how."""
OF_RECIPE = (
    "batch_size",
    "grad_accum_steps",
    "world_size",
    "learning_rate",
    "lr_schedule",
    "warmup_steps",
    "max_steps",
    "precision",
    "grad_clip_norm",
)
"""Settings of the full run that its config must state, or else the recipe: a trainer's default is not guessed."""
RECIPE_SUFFIXES = (".smoke.yaml", ".smoke.yml")
"""How the names of recipes end."""
NEUTRAL = {"grad_accum_steps": "1", "world_size": "1", "precision": "fp32", "grad_clip_norm": "null"}
"""Values of settings that mean `none of it`, for the example in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expanded:
    """A recipe's data after its configs were read."""

    data: dict[str, Any]
    """The data with the settings in place of `from`, `keys` and `preset`."""
    configs: Mapping[str, TrainerConfig] = field(default_factory=dict)
    """The config of each section that names one."""
    problems: tuple[Problem, ...] = ()
    """What is wrong in the recipe."""
    faults: tuple[Fault, ...] = ()
    """What is wrong in a config file."""
    places: Mapping[Keys, Fault] = field(default_factory=dict)
    """Where each setting is written that was read of a config, as a fault without a text."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each config file, by absolute path."""


def with_absolute_config(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make the path after `from` absolute: it is relative to the file that names it, which another may extend."""
    for section in SECTIONS:
        part = data.get(section)
        path = part.get("from") if isinstance(part, dict) else None
        if isinstance(part, dict) and isinstance(path, str) and path:
            data = {**data, section: {**part, "from": os.path.abspath(folder / path)}}
    return data


def expand(data: dict[str, Any], root: Path) -> Expanded:
    """Read the configs that a recipe names, and merge their settings with what the recipe states itself."""
    expansion = _Expansion(root=root, data=data)
    for section in SECTIONS:
        part = data.get(section)
        if isinstance(part, Mapping) and any(key in part for key in SPEC):
            expansion.section(section, part)
    expansion.inherit_seed()
    return Expanded(
        data=expansion.data,
        places=expansion.places,
        configs=expansion.configs,
        problems=tuple(expansion.problems),
        faults=tuple(expansion.faults),
        checksums={
            os.path.join(os.path.abspath(root), config.file.path): config.file.checksum
            for config in expansion.configs.values()
        },
    )


@dataclass(slots=True, kw_only=True)
class _Expansion:
    root: Path
    data: dict[str, Any]
    configs: dict[str, TrainerConfig] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    places: dict[Keys, Fault] = field(default_factory=dict)

    def section(self, section: str, part: Mapping[str, Any]) -> None:
        """Replace `from` in one section."""
        own = {key: value for key, value in part.items() if key not in SPEC}
        self.data = {**self.data, section: own}
        config = self._read(section, part, own)
        if config is None:
            self.data[section] = self._without_gaps(section, own)
            return
        self.configs[section] = config
        values = _settings_of(section, config)
        for key in values.keys() - own.keys():
            self._note_place(section, key, config)
        self.problems += _contradictions(section, own, values, config)
        self.problems += self._missing(section, own, values, config)
        self.data[section] = self._without_gaps(section, {**values, **own})
        if section == "full":
            self.problems += _argument_contradictions(self.data, config)
            self.problems += _mix_contradictions(self.data, config)

    @property
    def _tells_itself(self) -> bool:
        """Whether the settings of the full run are read from the trainer itself before the run."""
        return any(self.data.get(key) is not None for key in SELF_DESCRIBING)

    def _without_gaps(self, section: str, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return the section with `REFUSED` for what is missing: that was reported, with the config's name."""
        gaps = OF_RECIPE if section == "full" else ("max_steps",)
        if section == "full" and self._tells_itself:
            return dict(own)
        return {**dict.fromkeys(gaps, REFUSED), **own}

    def inherit_seed(self) -> None:
        """Give the smoke run the seed of the full run's config, if nothing else sets it."""
        config, smoke = self.configs.get("full"), self.data.get("smoke")
        if config is not None and isinstance(smoke, dict) and "seed" not in smoke and "seed" in config.values:
            self.data["smoke"] = {**smoke, "seed": config.value("seed")}
            self._note_place("smoke", "seed", config)

    def _note_place(self, section: str, key: str, config: TrainerConfig) -> None:
        entry = config.values[key].entry
        self.places[(section, key)] = Fault(config.file.path, entry.line, entry.column, "")

    def _read(self, section: str, part: Mapping[str, Any], own: Mapping[str, Any]) -> TrainerConfig | None:
        """Return the section's config; None if it cannot be read, which is noted."""
        path, keys, preset = (part.get(key) for key in SPEC)
        wrong = list(_spec_problems(section, part))
        self.problems += wrong
        if wrong or REFUSED in (path, keys, preset) or not isinstance(path, str):
            return None
        shown_path = os.path.relpath(path, self.root) if _is_within(path, self.root) else path
        shown_path = shown_path.replace(os.sep, "/")
        if not os.path.isfile(path):
            text = f"{section}.from: there is no file {shown_path}; the path is relative to the file that names it"
            self.problems.append(Problem(keys=(section, "from"), at_key=False, text=text))
            return None
        if path.endswith(RECIPE_SUFFIXES):
            text = f"{section}.from: {shown_path} is a recipe, not the config of a trainer; write it as extends"
            self.problems.append(Problem(keys=(section, "from"), at_key=False, text=text))
            return None
        try:
            file = read_config(Path(path), shown_path)
            return read_settings(file, preset=preset, keys=keys, stated=own)
        except RecipeError as error:
            self.faults += error.faults
        except ConfigKeyError as error:
            at: Keys = (section, "preset" if error.key == "preset" and preset else "from")
            if keys and error.key in keys:
                at = (section, "keys", error.key)
            self.problems.append(Problem(keys=at, at_key=False, text=f"{section}: {error.text}"))
        return None

    def _missing(
        self, section: str, own: Mapping[str, Any], values: Mapping[str, Any], config: TrainerConfig
    ) -> Iterator[Problem]:
        """Yield the settings that the config does not tell, and that the recipe does not state either."""
        tells_itself = self._tells_itself
        needed: tuple[str, ...] = OF_RECIPE if section == "full" else ("max_steps",)
        if section == "smoke" and "full" in self.configs:
            needed = (*needed, *(key for key in OF_RECIPE if key in self.configs["full"].values))
        needed = tuple(
            key
            for key in dict.fromkeys(needed)
            if not (key == "max_steps" and self.data.get("stages")) and key not in own
        )
        absent = []
        for key in OF_RECIPE:
            unclear = config.unclear.get(key)
            if unclear is not None and key not in own:
                entry = unclear.entry
                text = f"{section}.{key} cannot be read: {unclear.text}"
                hint = "" if "state" in unclear.text or "write" in unclear.text else f"; state {key} in {section}"
                self.faults.append(Fault(config.file.path, entry.line, entry.column, text + hint))
            elif key in needed and key not in values and not (tells_itself and section == "full"):
                absent.append(key)
        whole = config.unclear.get("effective_batch")
        if whole is not None:
            self.faults.append(
                Fault(config.file.path, whole.entry.line, whole.entry.column, f"{section}: {whole.text}")
            )
        if absent:
            yield Problem(
                keys=(section, "from"), at_key=False, text=_absent_text(section, absent, config, self.configs)
            )


def _absent_text(section: str, absent: list[str], config: TrainerConfig, configs: Mapping[str, TrainerConfig]) -> str:
    names = listed((f"{key} ({config.elsewhere[key]})" if key in config.elsewhere else key for key in absent), limit=9)
    text = f"{section}.from: {config.file.path} ({config.title}) does not state {names}"
    if section == "smoke" and "full" in configs:
        examples = [
            f"{key}: {shown(configs['full'].value(key))}"
            for key in absent
            if key in configs["full"].values and key != "max_steps"
        ]
        tail = f", such as `{', '.join(examples)}` of the full run" if examples else ""
    else:
        examples = [f"{key}: {NEUTRAL[key]}" for key in absent if key in NEUTRAL]
        tail = f", such as `{', '.join(examples)}`" if examples else ""
    named = [key for key in absent if key not in config.elsewhere]
    keys = f", or where the file has it: {section}.keys: {{{named[0]}: NAME}}" if named else ""
    return f"{text}; a trainer's default is not guessed. Write what holds in {section}{tail}{keys}"


def _spec_problems(section: str, part: Mapping[str, Any]) -> Iterator[Problem]:
    path, keys, preset = (part.get(key) for key in SPEC)
    if "from" not in part:
        key = "keys" if "keys" in part else "preset"
        text = f"{section}.{key} says how to read a config, but {section}.from names none"
        yield Problem(keys=(section, key), at_key=True, text=text)
        return
    if path is not REFUSED and (not isinstance(path, str) or not path):
        text = f"{section}.from is {described(path)}; it must be the path of a config file"
        yield Problem(keys=(section, "from"), at_key=False, text=text)
    if "preset" in part and preset is not REFUSED and preset not in PRESET_NAMES:
        hint = did_you_mean(preset, PRESET_NAMES) if isinstance(preset, str) else f"known: {', '.join(PRESET_NAMES)}"
        text = f"{section}.preset is {described(preset)}; {hint}"
        yield Problem(keys=(section, "preset"), at_key=False, text=text)
    if "keys" in part and keys is not REFUSED:
        if not isinstance(keys, Mapping):
            text = f"{section}.keys is {described(keys)}; it must be a mapping, setting: key of the config"
            yield Problem(keys=(section, "keys"), at_key=False, text=text)
        for setting, key in keys.items() if isinstance(keys, Mapping) else ():
            if not isinstance(key, str):
                text = f"{section}.keys.{setting} is {described(key)}; it must be a dotted key of the config, optim.lr"
                yield Problem(keys=(section, "keys", setting), at_key=False, text=text)


def _settings_of(section: str, config: TrainerConfig) -> dict[str, Any]:
    """Return the recipe's settings that the config states. A seed is a setting of the smoke run."""
    names = (*OF_RECIPE, "loss_weights", *(("seed",) if section == "smoke" else ()))
    return {key: config.value(key) for key in names if key in config.values and key not in config.unclear}


def _contradictions(
    section: str, own: Mapping[str, Any], values: Mapping[str, Any], config: TrainerConfig
) -> Iterator[Problem]:
    """Yield a problem for each setting that the recipe and the config state differently."""
    for key, theirs in values.items():
        if key not in own or own[key] is REFUSED:
            continue
        if key == "loss_weights" and isinstance(own[key], Mapping):
            for term in own[key].keys() & theirs.keys():
                if own[key][term] != theirs[term]:
                    yield _contradiction((section, key, term), own[key][term], theirs[term], config.place(key))
        elif own[key] != theirs:
            yield _contradiction((section, key), own[key], theirs, config.place(key))


def _contradiction(keys: Keys, ours: Any, theirs: Any, place: str) -> Problem:
    name = ".".join(map(str, keys))
    text = f"{name} is {shown(ours)} here and {shown(theirs)} in {place}; remove it here, or correct one of them"
    return Problem(keys=keys, at_key=False, text=text)


def _argument_contradictions(data: Mapping[str, Any], config: TrainerConfig) -> Iterator[Problem]:
    """Yield a problem for an argument of the task that the config states differently."""
    args = data.get("args")
    for key in ("weight_decay",):
        if isinstance(args, Mapping) and key in args and key in config.values and args[key] != config.value(key):
            yield _contradiction(("args", key), args[key], config.value(key), config.place(key))


MIX_TOLERANCE = 1e-6
"""Largest difference between two shares of one mix that is rounding."""


def _mix_contradictions(data: Mapping[str, Any], config: TrainerConfig) -> Iterator[Problem]:
    """Yield a problem if the config samples the sources that the recipe's mix names in other shares.

    A config's numbers may be shares or weights, so either of the recipe's may agree with them.
    """
    mix = data.get("mix")
    sources = mix.get("sources") if isinstance(mix, Mapping) else None
    theirs = config.value("data_mix")
    if not isinstance(sources, Mapping) or theirs is None or set(sources) != set(theirs):
        return
    if not all(isinstance(source, Mapping) for source in sources.values()):
        return
    stated = []
    for key in ("share", "weight"):
        numbers = {name: source.get(key) for name, source in sources.items()}
        if all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers.values()):
            total = sum(numbers.values())
            stated.append({name: one / total for name, one in numbers.items()} if total else numbers)
    if stated and not any(all(abs(ours[name] - theirs[name]) <= MIX_TOLERANCE for name in ours) for ours in stated):
        ours, place = stated[0], config.place("data_mix")
        name = max(ours, key=lambda one: abs(ours[one] - theirs[one]))
        text = (
            f"mix.sources: {name} is {shown(round(ours[name], 6))} of the mix here and {shown(round(theirs[name], 6))} "
            f"in {place}; correct one of them"
        )
        yield Problem(keys=("mix", "sources", name), at_key=True, text=text)


def _is_within(path: str, root: Path) -> bool:
    base = os.path.join(os.path.abspath(root), "")
    return os.path.abspath(path).startswith(base)
