"""pydantic's errors as sentences: what is wrong, with the value, and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from typing import Any

from pydantic import ValidationError

from pytest_smoke.recipe.fields import Frozen
from pytest_smoke.recipe.metric import Metric
from pytest_smoke.recipe.model import Checks, Mix, Pipeline, Recipe, Requires, Settings, Smoke, Source
from pytest_smoke.recipe.resume import ResumeCheck
from pytest_smoke.recipe.stages import Phase, Stage
from pytest_smoke.recipe.yaml_document import REFUSED

Keys = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something wrong with the data, before it has a place in a file."""

    keys: Keys
    """Path to the offending part of the data."""
    at_key: bool
    """True if the key itself is wrong, not its value."""
    text: str
    """What is wrong, with the offending value, and what is allowed."""


def problems(error: ValidationError, *, within: Keys = ()) -> list[Problem]:
    """One problem for each of pydantic's, but for values that were refused already.

    `within` is where the validated data stands in the recipe.
    """
    return [_problem(one, within) for one in error.errors(include_url=False) if one["input"] is not REFUSED]


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or the list of all that are known where nothing is near."""
    known = list(known)
    by_folded = {_folded(one): one for one in known}
    near = get_close_matches(_folded(word), by_folded, n=1, cutoff=0.7)
    return f"did you mean {by_folded[near[0]]}?" if near else f"known: {', '.join(known) or 'none'}"


def dotted(keys: Keys) -> str:
    """`checks.accept[0]`, the path as a person says it."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".")


def shown(value: object) -> str:
    """The value as it reads in YAML, shortened; its kind where it has parts."""
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
    ("checks", "resume"): ResumeCheck,
    ("mix",): Mix,
    ("requires",): Requires,
}


def _bound(number: float) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)


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
    "literal_error": lambda ctx: str(ctx["expected"]).replace("'", ""),
}

_PATTERNS: dict[Keys, str] = {
    ("task",): "an import path package.module:Name",
    ("checks", "grad_ratio"): "two loss terms as term/term",
    ("ablate",): "letters, digits and the signs _ . + -",
    ("stages", "name"): "letters, digits and the signs _ . + -",
    ("stages", "phases", "name"): "letters, digits and the signs _ . + -",
}


def _problem(error: Any, within: Keys) -> Problem:
    kind, value, ctx = error["type"], error["input"], error.get("ctx", {})
    keys: Keys = (*within, *(key for key in error["loc"] if key != "[key]"))
    name = dotted(keys)
    if kind == "missing":
        model = _model(keys[:-1])
        text = f"key {name} is missing" + (f": {model.model_fields[str(keys[-1])].description}" if model else "")
        return Problem(keys=keys[:-1], at_key=False, text=text.rstrip("."))
    if kind == "extra_forbidden":
        return Problem(keys=keys, at_key=True, text=_unknown_key(keys))
    if kind == "value_error":
        return Problem(keys=keys, at_key=False, text=f"{name}: {ctx['error']}")
    if kind == "string_pattern_mismatch":
        if error["loc"][-1] == "[key]":
            text = f"key {value} in {dotted(keys[:-1])} must be {_PATTERNS[keys[:-1]]}"
            return Problem(keys=keys, at_key=True, text=text)
        pattern = _PATTERNS[tuple(key for key in keys if isinstance(key, str))]
        return Problem(keys=keys, at_key=False, text=f"{name} is {shown(value)}; it must be {pattern}")
    if kind in ("too_short", "too_long"):
        return Problem(keys=keys, at_key=False, text=f"{name} {_wrong_length(kind, ctx, keys)}")
    allowed = _ALLOWED[kind](ctx) if kind in _ALLOWED else error["msg"]
    if keys == ("smoke", "pipeline"):
        allowed = "true, false or a mapping"
    text = f"{name} is {shown(value)}; it must be {allowed}"
    if kind == "literal_error" and isinstance(value, str):
        near = nearest(value, re.findall(r"'([^']+)'", ctx["expected"]))
        text += f" ({near})" if near.startswith("did") else ""
    if value is None:
        text += ", or leave the key out"
    return Problem(keys=keys, at_key=False, text=text)


def _wrong_length(kind: str, ctx: dict[str, Any], keys: Keys) -> str:
    if keys[:2] == ("checks", "grad_ratio"):
        return f"has {ctx['actual_length']} bounds; it must have two, [low, high]"
    bound = ctx["min_length"] if kind == "too_short" else ctx["max_length"]
    return f"has {ctx['actual_length']} entries; it must have at {'least' if kind == 'too_short' else 'most'} {bound}"


def _unknown_key(keys: Keys) -> str:
    section, key = keys[:-1], str(keys[-1])
    model = _model(section)
    where = f" in {dotted(section)}" if section else ""
    known = [*(model.model_fields if model else ()), *(() if section else ("extends",))]
    hint = nearest(key, known)
    if hint.startswith("known"):
        home = next((path for path, other in _MODELS.items() if key in other.model_fields), None)
        if home is not None:
            hint = f"it belongs under {dotted(home)}" if home else "it belongs at the top level"
    return f"unknown key {key}{where}; {hint}"


def _model(section: Keys) -> type[Frozen] | None:
    if section[:1] == ("metrics",) and len(section) == 2:
        return Metric
    if section[:2] == ("mix", "sources"):
        return Source
    if section[:1] == ("stages",) and len(section) > 1:
        return Phase if "phases" in section else Stage
    return _MODELS.get(section)


def _folded(word: str) -> str:
    return word.lower().replace("-", "_")
