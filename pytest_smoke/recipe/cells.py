"""Ablation cells: the same recipe with one setting changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pytest_smoke.recipe.configs.names import equivalent
from pytest_smoke.recipe.explain import Problem, described, dotted, problems
from pytest_smoke.recipe.model import Recipe, Settings, Smoke
from pytest_smoke.recipe.yaml_document import REFUSED
from pytest_smoke.text import did_you_mean

SEED = "smoke.seed"
"""The only setting of `smoke` that a cell may change, to measure how much two runs of one recipe differ."""


def cell_problems(data: Mapping[str, Any]) -> list[Problem]:
    """Return the problems of the cells in a recipe's data, beyond those that the model itself reports."""
    cells = data.get("ablate")
    if not isinstance(cells, Mapping):
        return []
    found: list[Problem] = []
    for name, cell in cells.items():
        if isinstance(cell, Mapping) and cell:
            found += _one_cell(data, name, cell)
    return found


def with_cell(data: Mapping[str, Any], cell: Mapping[str, Any]) -> Recipe:
    """Return the recipe of `data` with the setting of `cell` changed, also in `smoke` if it repeats the value."""
    ((key, value),) = cell.items()
    section, *keys = key.split(".")
    if key == SEED:
        return Recipe.model_validate({**data, "smoke": {**data["smoke"], "seed": value}})
    repeat = ["args", *keys] if section == "args" else keys
    smoke = data["smoke"]
    before = _get(data.get(section, {}), keys)
    # smoke.max_steps is the length of the smoke run and never repeats the full run's.
    if repeat != ["max_steps"] and _get(smoke, repeat) == before is not _ABSENT:
        smoke = _set(smoke, repeat, value)
    changed = _set(data.get(section, {}), keys, value)
    return Recipe.model_validate({**data, section: changed, "smoke": smoke})


_ABSENT: Any = object()


def _one_cell(data: Mapping[str, Any], name: str, cell: Mapping[str, Any]) -> list[Problem]:
    if len(cell) > 1:
        keys = list(cell)
        text = f"cell {name} changes {len(keys)} settings ({', '.join(keys)}); write a cell for each of them"
        return [Problem(keys=("ablate", name, keys[1]), at_key=True, text=text)]
    ((key, value),) = cell.items()
    at = ("ablate", name, key)
    section, *keys = key.split(".")
    fault = _key_fault(data, key, section, keys)
    if fault:
        return [Problem(keys=at, at_key=True, text=fault)]
    if value is REFUSED:
        return []
    before = _baseline(data, section, keys)
    if type(before) is type(value) and before == value:
        text = f"{key} is {described(value)} in the baseline, too, so cell {name} changes nothing; write another value"
        return [Problem(keys=at, at_key=False, text=text)]
    return _value_problems(data, at, section, keys, value) if section in _MODELS else []


def _key_fault(data: Mapping[str, Any], key: str, section: str, keys: list[str]) -> str | None:
    """Return what is wrong with the dotted key of a cell; None if a cell may change it."""
    if key == SEED:
        return None
    if section not in ("args", "full") or not keys or not all(keys):
        allowed = f"a cell changes one key of args or full (args.KEY, full.KEY), or {SEED}"
        hint = f"did you mean full.{key}?" if key in Settings.model_fields else allowed
        return f"{key} is not a setting that a cell can change; {hint}"
    if section == "full" and keys[0] not in Settings.model_fields:
        hint = equivalent(keys[0], "full") or did_you_mean(keys[0], Settings.model_fields)
        return f"unknown key {key}; {hint}"
    target = data.get(section, {})
    for depth, part in enumerate(keys):
        if target is REFUSED or target is _ABSENT:
            return None
        if not isinstance(target, Mapping):
            return f"{key} does not exist: {dotted((section, *keys[:depth]))} is {described(target)}, not a mapping"
        target = target.get(part, {} if section == "full" and part == "loss_weights" else _ABSENT)
    return None


_MODELS: Mapping[str, type[Settings | Smoke]] = {"full": Settings, "smoke": Smoke}


def _value_problems(
    data: Mapping[str, Any], at: tuple[str, ...], section: str, keys: list[str], value: object
) -> list[Problem]:
    """Validate the section with the cell's value in it, and report problems at the cell's place."""
    current = data.get(section)
    if not isinstance(current, Mapping):
        return []
    try:
        _MODELS[section].model_validate(_set(current, keys, value))
    except ValidationError as error:
        target = (section, *keys)
        return [
            Problem(keys=(*at, *problem.keys[len(target) :]), at_key=False, text=f"cell {at[1]}: {problem.text}")
            for problem in problems(error, within=(section,))
            if problem.keys[: len(target)] == target
        ]
    return []


def _baseline(data: Mapping[str, Any], section: str, keys: list[str]) -> Any:
    """Return the value without the cell, including defaults; those of the task's `args` are not known here."""
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
    """Copy `mapping` with the value at the path; mappings that are missing on the way are created."""
    first, *rest = keys
    inner = mapping.get(first, {}) if rest else None
    return {**mapping, first: _set(inner, rest, value) if rest else value}
