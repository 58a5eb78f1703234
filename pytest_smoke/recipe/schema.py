"""Generate the JSON Schema of recipes, with which editors complete and check them."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from pytest_smoke.recipe.configs.presets import OVERRIDES, PRESET_NAMES
from pytest_smoke.recipe.model import SELF_DESCRIBING, TRAINERS, Recipe

EXTENDS = "Path of another recipe, relative to this file's folder. Its keys apply here, too; keys in this file win."


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a `*.smoke.yaml`.

    Required keys, and exactly one key that says what trains, are required only without `extends`, those of a section
    only without its `from`: both may provide them. The lengths of the full run and of the smoke run are required only
    without `stages`, and settings of the full run only where they are not read from its trainer.
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
            if "description" in value:
                value["description"] = " ".join(value["description"].split())
            if "patternProperties" in value:  # pydantic's schema allows other names, its validation does not
                value.setdefault("additionalProperties", False)
    then["oneOf"] = [{"required": [key]} for key in TRAINERS]
    lengths = {}
    for section, model in (("full", "Settings"), ("smoke", "Smoke")):
        then["properties"][section]["required"].remove("max_steps")
        then["properties"][section] = _without_config(then["properties"][section])
        lengths[section] = _without_config({"required": ["max_steps"]})
        properties = defs[model]["properties"]
        defs[model]["properties"] = {**_config_keys(section), **properties}
    then["required"].remove("full")
    own_full = {"required": ["full"], "properties": {"full": then["properties"].pop("full")}}
    lengths_without_stages = {
        "if": {"not": {"required": ["stages"]}},
        "then": {"properties": {"smoke": lengths["smoke"]}},
    }
    full_without_stages = {"if": {"not": {"required": ["stages"]}}, "then": {"properties": {"full": lengths["full"]}}}
    described = {"anyOf": [{"required": [key]} for key in SELF_DESCRIBING]}
    then |= lengths_without_stages
    then["allOf"] = [{"if": {"not": described}, "then": {**own_full, "allOf": [full_without_stages]}}]
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **schema,
        "if": {"not": {"required": ["extends"]}},
        "then": then,
    }


def _without_config(required: dict[str, Any]) -> dict[str, Any]:
    """Require keys only of a section without `from`, whose config may state them."""
    return {"if": {"not": {"required": ["from"]}}, "then": required}


def _config_keys(section: str) -> dict[str, Any]:
    """Return the schema of the keys that say which config to read, and how."""
    run = "full run" if section == "full" else "smoke run"
    return {
        "from": {
            "type": "string",
            "minLength": 1,
            "title": "From",
            "description": f"Path of the trainer's config file of the {run} (JSON, YAML, TOML, or what "
            "`print(training_args)` prints), relative to this file's folder. Settings that it states need not be "
            "repeated here; those that it does not state must be.",
        },
        "keys": {
            "type": "object",
            "title": "Keys",
            "default": {},
            "properties": {setting: {"type": "string"} for setting in OVERRIDES},
            "additionalProperties": False,
            "description": "Where the config has a setting, if it is not found by itself: `setting: dotted.key`.",
        },
        "preset": {
            "enum": list(PRESET_NAMES),
            "title": "Preset",
            "description": "Trainer of the config. Default: recognised by the config's keys.",
        },
    }


def _take_required(schema: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """Return the `required` of a schema and of everything inside it as a schema; remove the outermost one."""
    if "$ref" in schema:
        schema = dict(defs[schema["$ref"].rpartition("/")[2]])
    for choice in schema.get("anyOf", ()):
        if "$ref" in choice:
            # Harmless for the other choices: `required` applies to objects only.
            return _take_required(choice, defs)
    required = schema.pop("required", None)
    inner = {name: _take_required(part, defs) for name, part in schema.get("properties", {}).items()}
    inner = {name: part for name, part in inner.items() if part}
    values = schema.get("additionalProperties")
    each = _take_required(values, defs) if isinstance(values, dict) else {}
    items = _take_required(schema["items"], defs) if "items" in schema else {}
    parts = {"required": required, "properties": inner, "additionalProperties": each, "items": items}
    return {key: part for key, part in parts.items() if part}
