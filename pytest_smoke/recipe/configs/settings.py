"""The settings of a trainer's config: what it states, what cannot be known from it, and where each is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_smoke.recipe.configs.file import ConfigFile, Entry
from pytest_smoke.recipe.configs.names import equivalent
from pytest_smoke.recipe.configs.presets import CONVERT, OVERRIDES, PRESETS, SETTINGS, SPECIAL, Preset, Reader
from pytest_smoke.recipe.configs.values import Reading, UnclearError, View, warmup_of_ratio
from pytest_smoke.text import closest, did_you_mean, listed

FACTORS = ("batch_size", "grad_accum_steps", "world_size")


class ConfigKeyError(Exception):
    """What a recipe or a command line says about a config does not fit it. `key` is `preset` or a key of `keys`."""

    def __init__(self, text: str, key: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.key = key


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerConfig:
    """A config file and the settings in it."""

    file: ConfigFile
    preset: str
    """Name of the preset, `axolotl`."""
    title: str
    """Name of the trainer, for messages."""
    values: Mapping[str, Reading]
    """Settings that the file states, by the names in `SETTINGS`."""
    unclear: Mapping[str, UnclearError]
    """Settings that the file has, but in a form from which they cannot be known."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Where the trainer gets settings from that its config cannot have."""
    used: frozenset[str] = frozenset()
    """Keys of the file that settings were read from."""

    def value(self, setting: str) -> Any:
        """Return a setting; None if it is not known."""
        reading = self.values.get(setting)
        return reading and reading.value

    def place(self, setting: str) -> str:
        """Name the place of a setting that the file states: `configs/full.yaml:12 (optimizer.lr)`."""
        return self.file.place(self.values[setting].entry)

    @property
    def effective_batch(self) -> int | None:
        """Samples in one optimizer step; None if it is not known."""
        factors = [self.value(key) for key in FACTORS]
        if None not in factors and not set(FACTORS) & set(self.unclear):
            return int(factors[0] * factors[1] * factors[2])
        effective = self.value("effective_batch")
        return None if effective is None or "effective_batch" in self.unclear else int(effective)


def read_settings(
    file: ConfigFile,
    *,
    preset: str | None = None,
    keys: Mapping[str, str] | None = None,
    stated: Mapping[str, Any] | None = None,
) -> TrainerConfig:
    """Read the settings of a config. `preset` names its trainer, `keys` the keys of settings, where known.

    `stated` has settings that are known from elsewhere; a share of the run needs its length, an accumulation the number
    of devices. Raises ConfigKeyError if the preset or one of the keys does not fit the file.
    """
    chosen, prefix = _chosen(file, preset)
    view = View(file=file, prefix=prefix, stated=stated or {})
    readers: dict[str, Reader] = {**chosen.readers, **_overriding(file, keys or {})}
    unclear: dict[str, UnclearError] = {}
    for setting in SETTINGS:
        try:
            reading = readers[setting](view) if setting in readers else None
        except UnclearError as error:
            unclear[setting] = error
        else:
            if reading is not None:
                view.found[setting] = reading
    _derive_batch(view, unclear)
    if not view.found and not unclear:
        names = listed(file.entries, limit=4)
        raise ConfigKeyError(f"{file.path} has no key of a known setting (it has {names}); name them under keys", "")
    return TrainerConfig(
        file=file,
        preset=chosen.name,
        title=chosen.title,
        values=view.found,
        unclear=unclear,
        elsewhere=chosen.elsewhere,
        used=frozenset(view.used),
    )


def _chosen(file: ConfigFile, name: str | None) -> tuple[Preset, str]:
    """Return the preset and the prefix of the settings' keys. Raises ConfigKeyError."""
    if name is not None:
        named = next((one for one in PRESETS if one.name == name), None)
        if named is None:
            raise ConfigKeyError(
                f"there is no preset {name}; {did_you_mean(name, [one.name for one in PRESETS])}", "preset"
            )
        return named, named.recognise(file) or ""
    found = [(one, prefix) for one in SPECIAL if (prefix := one.recognise(file)) is not None]
    if len(found) > 1:
        titles = listed((one.title for one, _ in found), limit=len(found))
        names = " or ".join(one.name for one, _ in found)
        raise ConfigKeyError(f"{file.path} has keys of {titles}; name its trainer: preset: {names}", "preset")
    general = ((one, prefix) for one in PRESETS if (prefix := one.recognise(file)) is not None)
    return found[0] if found else next(general)


def _overriding(file: ConfigFile, keys: Mapping[str, str]) -> dict[str, Reader]:
    readers: dict[str, Reader] = {}
    for setting, key in keys.items():
        if setting not in OVERRIDES:
            hint = equivalent(setting, "full") or did_you_mean(setting, OVERRIDES)
            raise ConfigKeyError(f"keys has no setting {setting}; {hint}", setting)
        entry = file.entries.get(key)
        if entry is None:
            near = closest(key, list(file.entries))
            hint = f"did you mean {near}?" if near else f"it has {listed(file.entries, limit=6)}"
            raise ConfigKeyError(f"{file.path} has no key {key}; {hint}", setting)
        readers["warmup_steps" if setting == "warmup_ratio" else setting] = _override(setting, entry)
    return readers


def _override(setting: str, entry: Entry) -> Reader:
    def read(view: View) -> Reading:
        view.use(entry)
        if setting == "warmup_ratio":
            value, note = warmup_of_ratio(entry, view.known("max_steps"))
            return Reading(value=value, entry=entry, note=note)
        return Reading(value=CONVERT[setting](entry), entry=entry)

    return read


def _derive_batch(view: View, unclear: dict[str, UnclearError]) -> None:
    """Compute the factor of the effective batch that is missing, or find that the factors do not make it."""
    whole = view.found.get("effective_batch")
    if whole is None:
        return
    known = {key: view.known(key) for key in FACTORS}
    missing = [key for key, value in known.items() if value is None]
    product = 1
    for value in known.values():
        product *= value if isinstance(value, int) and value > 0 else 1
    factors = " x ".join(f"{key} {value}" for key, value in known.items() if value is not None)
    if len(missing) == 1 and missing[0] not in unclear:
        if whole.value % product:
            text = f"{whole.entry.key} is {whole.value}, which is not a multiple of {factors}"
            unclear[missing[0]] = UnclearError(text, whole.entry)
            return
        note = f"{whole.entry.key} {whole.value} / ({factors})"
        view.found[missing[0]] = Reading(value=whole.value // product, entry=whole.entry, note=note)
    elif not missing and product != whole.value:
        text = f"{whole.entry.key} is {whole.value}, but {factors} is {product}; correct one of them"
        unclear["effective_batch"] = UnclearError(text, whole.entry)
