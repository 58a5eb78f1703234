"""Turn pydantic's errors into sentences: what is wrong with the value, and what is allowed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Any

from pydantic import ValidationError

from pytest_smoke.files import strict_json
from pytest_smoke.recipe.configs.names import equivalent
from pytest_smoke.recipe.fields import Frozen
from pytest_smoke.recipe.launch import Launch
from pytest_smoke.recipe.model import (
    Checks,
    LogSpec,
    MetricSpec,
    MixSpec,
    Pipeline,
    Recipe,
    Requires,
    Settings,
    Smoke,
    SourceSpec,
    TrainerError,
)
from pytest_smoke.recipe.resume import ResumeSpec
from pytest_smoke.recipe.stages import PhaseSpec, StageSpec
from pytest_smoke.recipe.yaml_document import REFUSED
from pytest_smoke.text import closest, count, did_you_mean, number

Keys = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A fault of the recipe's data, before its place in a file is known."""

    keys: Keys
    """Path to the offending part of the data."""
    at_key: bool
    """True if the key itself is wrong, not its value."""
    text: str
    """What is wrong, with the offending value, and what is allowed."""


def problems(error: ValidationError, *, within: Keys = ()) -> list[Problem]:
    """Return one problem for each of pydantic's errors, except for values that have a fault already.

    `within` is the place of the validated data in the recipe. What trains is reported by `load.py`, which knows the
    places of all keys.
    """
    errors = error.errors(include_url=False)
    return [_problem(detail, within) for detail in errors if not (detail["input"] is REFUSED or _is_of_trainer(detail))]


def _is_of_trainer(detail: Any) -> bool:
    return isinstance(detail.get("ctx", {}).get("error"), TrainerError)


@lru_cache(maxsize=1024)  # thousands of recipes have the same keys
def dotted(keys: Keys) -> str:
    """Format a path into the recipe: `checks.accept[0]`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".")


def described(value: object) -> str:
    """Name a value as YAML spells it, shortened; mappings and lists by their kind."""
    if value is None:
        return "empty (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {value if len(value) <= 60 else value[:57] + '...'!r}"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, float) and not isfinite(value):
        return ".inf" if value > 0 else "-.inf"
    return "a list" if isinstance(value, list) else f"{value!r}"


_MODELS: dict[Keys, type[Frozen]] = {
    (): Recipe,
    ("full",): Settings,
    ("smoke",): Smoke,
    ("smoke", "pipeline"): Pipeline,
    ("checks",): Checks,
    ("checks", "resume"): ResumeSpec,
    ("launch",): Launch,
    ("log",): LogSpec,
    ("mix",): MixSpec,
    ("requires",): Requires,
}


def _bound(value: float) -> str:
    return number(value) if isinstance(value, float) else f"{value:,}"


_ALLOWED: dict[str, Callable[[dict[str, Any]], str]] = {
    "int_type": lambda _: "a whole number",
    "float_type": lambda _: "a number",
    "string_type": lambda _: "text",
    "string_too_short": lambda _: "text of at least one character",
    "bool_type": lambda _: "true or false",
    "finite_number": lambda _: "a finite number",
    "model_type": lambda _: "a mapping",
    "dict_type": lambda _: "a mapping",
    "list_type": lambda _: "a list",
    "greater_than": lambda ctx: f"greater than {_bound(ctx['gt'])}",
    "greater_than_equal": lambda ctx: f"{_bound(ctx['ge'])} or more",
    "less_than_equal": lambda ctx: f"{_bound(ctx['le'])} or less",
    "literal_error": lambda ctx: "one of " + str(ctx["expected"]).replace("'", ""),
}

_PATTERNS: dict[Keys, str] = {
    ("task",): "an import path, package.module:Name",
    ("hf",): "an import path, package.module:name",
    ("lightning",): "an import path, package.module:name",
    ("checks", "grad_ratio"): "two loss terms, as term/term",
    ("ablate",): "a name of letters, digits and the characters _ . + -",
    ("stages", "name"): "a name of letters, digits and the characters _ . + -",
    ("stages", "phases", "name"): "a name of letters, digits and the characters _ . + -",
}


def _problem(error: Any, within: Keys) -> Problem:
    kind, value, ctx = error["type"], error["input"], error.get("ctx", {})
    keys: Keys = (*within, *(key for key in error["loc"] if key != "[key]"))
    name = dotted(keys)
    if kind == "missing":
        model = _model(keys[:-1])
        meaning = model.description(str(keys[-1])).partition(". ")[0].rstrip(".") if model else ""
        text = f"key {name} is missing" + (f" ({meaning[0].lower()}{meaning[1:]})" if meaning else "")
        return Problem(keys=keys[:-1], at_key=False, text=text)
    if kind == "extra_forbidden":
        return Problem(keys=keys, at_key=True, text=_unknown_key(keys))
    if kind == "value_error":
        return Problem(keys=keys, at_key=False, text=f"{name}: {ctx['error']}")
    if kind == "string_pattern_mismatch":
        if error["loc"][-1] == "[key]":
            text = f"key {value!r} in {dotted(keys[:-1])} must be {_PATTERNS[keys[:-1]]}"
            return Problem(keys=keys, at_key=True, text=text)
        pattern = _PATTERNS[tuple(key for key in keys if isinstance(key, str))]
        return Problem(keys=keys, at_key=False, text=f"{name} is {described(value)}; it must be {pattern}")
    if kind in ("too_short", "too_long"):
        return Problem(keys=keys, at_key=False, text=f"{name} {_wrong_length(kind, ctx, keys)}")
    allowed = _ALLOWED[kind](ctx) if kind in _ALLOWED else error["msg"]
    if keys in (("smoke", "pipeline"), ("checks", "resume")):
        allowed = "true, false or a mapping"
    text = f"{name} is {described(value)}; it must be {allowed}"
    if kind == "literal_error" and isinstance(value, str):
        near = closest(value, re.findall(r"'([^']+)'", ctx["expected"]), cutoff=0.7)
        text += f" (did you mean {near}?)" if near else ""
    if keys == ("command",) and isinstance(value, str):
        text += f", because no shell reads it: {_as_list(value)}"
    if value is None:
        text += ", or be left out"
    return Problem(keys=keys, at_key=False, text=text)


def _as_list(command: str) -> str:
    """Return the words of a command as a YAML list."""
    try:
        words = shlex.split(command)
    except ValueError:  # a quote that is not closed
        words = command.split()
    plain = re.compile(r"[A-Za-z0-9_./=+-]+")
    return f"[{', '.join(word if plain.fullmatch(word) else strict_json(word) for word in words)}]"


def _wrong_length(kind: str, ctx: dict[str, Any], keys: Keys) -> str:
    if keys[:2] == ("checks", "grad_ratio"):
        return f"has {count(ctx['actual_length'], 'bound')}; it must have two, [low, high]"
    limit = f"at least {ctx['min_length']}" if kind == "too_short" else f"at most {ctx['max_length']}"
    return f"has {count(ctx['actual_length'], 'entry', 'entries')}; it must have {limit}"


_SETTINGS = ((), ("full",), ("smoke",), ("stages",))
"""Sections in which users write the settings of their trainers."""


def _unknown_key(keys: Keys) -> str:
    section, key = keys[:-1], str(keys[-1])
    model = _model(section)
    where = f" in {dotted(section)}" if section else ""
    foreign = equivalent(key, dotted(section)) if section[:1] in _SETTINGS else None
    if foreign is not None:
        return f"unknown key {key}{where}; {foreign}"
    reads = ("from", "keys", "preset") if section in (("full",), ("smoke",)) else ()
    known = [*(model.model_fields if model else ()), *reads, *(() if section else ("extends",))]
    hint = did_you_mean(key, known)
    if hint.startswith("known"):
        home = next((path for path, other in _MODELS.items() if key in other.model_fields), None)
        if home is not None:
            hint = f"it belongs under {dotted(home)}" if home else "it belongs at the top level"
    return f"unknown key {key}{where}; {hint}"


def _model(section: Keys) -> type[Frozen] | None:
    if section[:1] == ("metrics",) and len(section) == 2:
        return MetricSpec
    if section[:2] == ("mix", "sources"):
        return SourceSpec
    if section[:1] == ("stages",) and len(section) > 1:
        return PhaseSpec if "phases" in section else StageSpec
    return _MODELS.get(section)
