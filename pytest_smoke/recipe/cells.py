"""Ablation cells: the recipe again, with one setting changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pytest_smoke.recipe.explain import Problem, dotted, nearest, problems, shown
from pytest_smoke.recipe.model import Recipe, Settings, Smoke
from pytest_smoke.recipe.yaml_document import REFUSED

SEED = "smoke.seed"
"""The one setting of the smoke that a cell may change: how far two runs of one recipe lie apart."""


def cell_problems(data: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the cells of a recipe's data, beyond what the model itself refuses."""
    cells = data.get("ablate")
    if not isinstance(cells, Mapping):
        return []
    found: list[Problem] = []
    for name, cell in cells.items():
        if isinstance(cell, Mapping) and cell:
            found += _one_cell(data, name, cell)
    return found


def with_cell(data: Mapping[str, Any], cell: Mapping[str, Any]) -> Recipe:
    """The recipe of `data` with the one setting of `cell` changed, also where `smoke` repeats the full run's value."""
    ((key, value),) = cell.items()
    section, *keys = key.split(".")
    if key == SEED:
        return Recipe.model_validate({**data, "smoke": {**data["smoke"], "seed": value}})
    repeat = ["args", *keys] if section == "args" else keys
    smoke = data["smoke"]
    before = _get(data.get(section, {}), keys)
    # max_steps of a smoke is its own length, never a repeat of the full run's.
    if repeat != ["max_steps"] and _get(smoke, repeat) == before is not _ABSENT:
        smoke = _set(smoke, repeat, value)
    changed = _set(data.get(section, {}), keys, value)
    return Recipe.model_validate({**data, section: changed, "smoke": smoke})


_ABSENT: Any = object()


def _one_cell(data: Mapping[str, Any], name: str, cell: Mapping[str, Any]) -> list[Problem]:
    if len(cell) > 1:
        keys = list(cell)
        text = (
            f"cell {name} changes {len(keys)} settings ({', '.join(keys)}); one each, so that a verdict has one cause"
        )
        return [Problem(keys=("ablate", name, keys[1]), at_key=True, text=text)]
    ((key, value),) = cell.items()
    at = ("ablate", name, key)
    section, *keys = key.split(".")
    wrong = _wrong_key(data, key, section, keys)
    if wrong:
        return [Problem(keys=at, at_key=True, text=wrong)]
    if value is REFUSED:
        return []
    before = _baseline(data, section, keys)
    if type(before) is type(value) and before == value:
        text = f"{key} is {shown(value)} in the baseline too, so cell {name} changes nothing; write another value"
        return [Problem(keys=at, at_key=False, text=text)]
    return _wrong_value(data, at, section, keys, value) if section in _MODELS else []


def _wrong_key(data: Mapping[str, Any], key: str, section: str, keys: list[str]) -> str | None:
    """Why the dotted key names nothing that a cell may change; None if it does."""
    if key == SEED:
        return None
    if section not in ("args", "full") or not keys or not all(keys):
        allowed = f"a cell changes one args.KEY or full.KEY, or {SEED}"
        hint = f"did you mean full.{key}?" if key in Settings.model_fields else allowed
        return f"{key} is not a setting a cell can change; {hint}"
    if section == "full" and keys[0] not in Settings.model_fields:
        return f"unknown key {key}; {nearest(keys[0], Settings.model_fields)}"
    target = data.get(section, {})
    for depth, part in enumerate(keys):
        if target is REFUSED or target is _ABSENT:
            return None
        if not isinstance(target, Mapping):
            return f"{key} reaches into {dotted((section, *keys[:depth]))}, which is {shown(target)}, not a mapping"
        target = target.get(part, {} if section == "full" and part == "loss_weights" else _ABSENT)
    return None


_MODELS: Mapping[str, type[Settings | Smoke]] = {"full": Settings, "smoke": Smoke}


def _wrong_value(
    data: Mapping[str, Any], at: tuple[str, ...], section: str, keys: list[str], value: object
) -> list[Problem]:
    """What the model says of the full run, or of the smoke, with the cell's value in it, at the cell's place."""
    below = data.get(section)
    if not isinstance(below, Mapping):
        return []
    try:
        _MODELS[section].model_validate(_set(below, keys, value))
    except ValidationError as error:
        target = (section, *keys)
        return [
            Problem(keys=(*at, *found.keys[len(target) :]), at_key=False, text=f"cell {at[1]}: {found.text}")
            for found in problems(error, within=(section,))
            if found.keys[: len(target)] == target
        ]
    return []


def _baseline(data: Mapping[str, Any], section: str, keys: list[str]) -> Any:
    """The value without the cell, defaults included; those of a task's `args` are not known here."""
    before = _get(data.get(section, {}), keys)
    if before is _ABSENT and section in _MODELS and len(keys) == 1:
        return _MODELS[section].model_fields[keys[0]].get_default()
    return before


def _get(mapping: Any, keys: list[str]) -> Any:
    for key in keys:
        if not isinstance(mapping, Mapping) or key not in mapping:
            return _ABSENT
        mapping = mapping[key]
    return mapping


def _set(mapping: Any, keys: list[str], value: Any) -> dict[str, Any]:
    """A copy of `mapping` with the value at the path, its missing mappings made."""
    first, *rest = keys
    inner = mapping.get(first, {}) if rest else None
    return {**mapping, first: _set(inner, rest, value) if rest else value}
