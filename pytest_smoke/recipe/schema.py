"""The recipe's JSON Schema, so that editors complete and check recipes as they are written."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from pytest_smoke.recipe.model import Recipe

EXTENDS = "Path of another recipe, from this file's folder; its keys hold here too, and what is written here wins."


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a `*.smoke.yaml`.

    Required keys are required only where nothing is extended: a recipe that extends another may have them from there.
    The lengths of full run and smoke are required only where no stages say them.
    """
    schema = Recipe.model_json_schema()
    defs = schema["$defs"]
    then = _take_required(schema, defs)
    schema["properties"] = {
        "extends": {"type": "string", "minLength": 1, "title": "Extends", "description": EXTENDS},
        **schema["properties"],
    }
    for part in defs.values():
        part.pop("required", None)
    for part in (schema, *defs.values()):
        for value in part["properties"].values():
            if "patternProperties" in value:  # pydantic leaves other names open, and refuses them when it validates
                value.setdefault("additionalProperties", False)
    lengths = {}
    for section in ("full", "smoke"):
        then["properties"][section]["required"].remove("max_steps")
        lengths[section] = {"required": ["max_steps"]}
    then |= {"if": {"not": {"required": ["stages"]}}, "then": {"properties": lengths}}
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **schema,
        "if": {"not": {"required": ["extends"]}},
        "then": then,
    }


def _take_required(schema: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """The `required` of a schema and of all within it, as a schema of its own; the outermost is taken out."""
    if "$ref" in schema:
        schema = dict(defs[schema["$ref"].rpartition("/")[2]])
    for choice in schema.get("anyOf", ()):
        if "$ref" in choice:
            # Harmless for the other choices: `required` says nothing of what is no object.
            return _take_required(choice, defs)
    required = schema.pop("required", None)
    inner = {name: _take_required(part, defs) for name, part in schema.get("properties", {}).items()}
    inner = {name: part for name, part in inner.items() if part}
    values = schema.get("additionalProperties")
    each = _take_required(values, defs) if isinstance(values, dict) else {}
    items = _take_required(schema["items"], defs) if "items" in schema else {}
    parts = {"required": required, "properties": inner, "additionalProperties": each, "items": items}
    return {key: part for key, part in parts.items() if part}
