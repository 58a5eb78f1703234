"""Generate the JSON Schema of `verdicts.json` from the outcome's dataclasses and the registry of checks."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import inf, nan
from textwrap import dedent
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pytest_smoke import recipe_texts
from pytest_smoke.files import VERDICTS_SCHEMA, json_value
from pytest_smoke.judge.checks.check import WITHOUT_DATA, Check
from pytest_smoke.judge.checks.registry import CHECK_FAILED, CHECKS, DEFAULT, Registry
from pytest_smoke.outcome import CheckpointFacts, Facts, Finding, GradientFacts, Outcome, StageFacts

OBJECTS = (Outcome, Finding, Facts, StageFacts, GradientFacts, CheckpointFacts)
"""The dataclasses that the file holds, in the order of the reference page."""
UNKNOWN_LEFT_OUT = (Facts, StageFacts)
"""Those in which a value that is not known has no key. In the others it is null."""
NON_FINITE: list[str] = [json_value(value) for value in (nan, inf, -inf)]
"""How the file writes the numbers that JSON does not have."""
_UNIONS = (Union, UnionType)
"""`Literal["a"] | None` is the first, `int | None` the second until Python 3.14."""
_SIMPLE = {str: {"type": "string"}, bool: {"type": "boolean"}, int: {"type": "integer"}, Any: {}}


def json_schema(registry: Registry = DEFAULT) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the `verdicts.json` that a session with these checks writes."""
    definitions = {cls.__name__: _object(cls) for cls in OBJECTS}
    definitions["Facts"]["properties"] = _with_shared_texts(definitions["Facts"]["properties"])
    definitions["Finding"]["properties"]["id"]["pattern"] = _id_pattern(*(check.id for check in registry.checks))
    definitions["Finding"]["allOf"] = [_row(check) for check in registry.checks]
    definitions["Number"] = {
        "description": f"A number; {', '.join(NON_FINITE)} are texts, because JSON has no such numbers.",
        "anyOf": [{"type": "number"}, {"enum": NON_FINITE}],
    }
    properties = {
        "schema": {
            "description": "Version of the format, raised when a key changes its meaning or goes away.",
            "const": VERDICTS_SCHEMA,
        },
        "outcomes": {
            "description": "One per smoke run, sorted by id.",
            "type": "array",
            "items": {"$ref": "#/$defs/Outcome"},
        },
        recipe_texts.TABLE: {
            "description": "Text of each recipe, followed by the files that it extends. The key is the SHA-256 of the "
            f"text, which the outcome has as `facts.{recipe_texts.DIGEST}`. Outcomes of one recipe share one text.",
            "type": "object",
            "additionalProperties": {"type": "string"},
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "verdicts.json",
        "description": "The outcomes of a pytest session with --smoke-report.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        "$defs": definitions,
    }


def field_descriptions(cls: type) -> dict[str, str]:
    """Return the docstring under each field of a class, on one line; empty for a field without one."""
    (node,) = ast.parse(dedent(inspect.getsource(cls))).body
    assert isinstance(node, ast.ClassDef)
    return dict.fromkeys(inspect.get_annotations(cls), "") | attribute_descriptions(node.body)


def attribute_descriptions(statements: Sequence[ast.stmt]) -> dict[str, str]:
    """Return the text under each assignment in the body of a class or module, on one line, by the assigned name."""
    found = {}
    for statement, following in pairwise(statements):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return found


def _object(cls: type) -> dict[str, Any]:
    """Return the schema of a dataclass."""
    descriptions, required, properties = field_descriptions(cls), [], {}
    for name, hint in get_type_hints(cls).items():
        if cls in UNKNOWN_LEFT_OUT and get_origin(hint) in _UNIONS:
            (hint,) = (choice for choice in get_args(hint) if choice is not NoneType)
        elif cls is not Facts:  # which leaves out empty values, too
            required.append(name)
        properties[name] = {"description": descriptions[name], **_value(hint)}
    return {
        "description": " ".join((cls.__doc__ or "").split()),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _with_shared_texts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the fact that the file does not have by the one that it has in its place."""
    digest = {
        "description": f"SHA-256 of the recipe's text, which is in `{recipe_texts.TABLE}`; None if it was written in "
        "Python.",
        "type": "string",
    }
    return dict(
        (recipe_texts.DIGEST, digest) if name == recipe_texts.TEXT else (name, value) for name, value in facts.items()
    )


def _value(hint: Any) -> dict[str, Any]:
    """Return the schema of what `to_dict` makes of a value with this type."""
    kind, args = get_origin(hint), get_args(hint)
    if hint in _SIMPLE:
        return dict(_SIMPLE[hint])
    if hint is NoneType:
        return {"type": "null"}
    if hint is float:
        return {"$ref": "#/$defs/Number"}
    if hint in OBJECTS:
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if kind is Literal:
        return {"enum": list(args)}
    if kind in _UNIONS:
        return {"anyOf": [_value(choice) for choice in args]}
    if kind is tuple and args[-1] is not ...:
        return {"type": "array", "prefixItems": [_value(item) for item in args], "minItems": len(args), "items": False}
    if kind in (tuple, list):
        return {"type": "array", "items": _value(args[0])}
    return {"type": "object", "additionalProperties": _value(args[1])}


def _row(check: Check) -> dict[str, Any]:
    """Return the rule that a finding of this check has one of its reasons; if it passed, it needs none."""
    reasons = (*check.reasons, *WITHOUT_DATA, *(() if check in CHECKS else (CHECK_FAILED,)))
    passed = {"properties": {"status": {"const": "pass"}, "reason": {"const": ""}}}
    with_reason = [
        {
            "description": reason.when,
            "properties": {"status": {"const": reason.status}, "reason": {"const": reason.id}},
        }
        for reason in reasons
    ]
    return {
        "if": {"properties": {"id": {"pattern": _id_pattern(check.id)}}},
        "then": {"description": check.question, "anyOf": [passed, *with_reason]},
    }


def _id_pattern(*checks: str) -> str:
    """Match the id of a check, with or without its subject in brackets."""
    return rf"^({'|'.join(checks)})(\[[\s\S]*\])?$"
