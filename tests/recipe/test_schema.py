"""The JSON Schema of recipes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator

from pytest_smoke.recipe.launch import Launch
from pytest_smoke.recipe.model import (
    SELF_DESCRIBING,
    TRAINERS,
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
)
from pytest_smoke.recipe.resume import ResumeSpec
from pytest_smoke.recipe.schema import json_schema
from pytest_smoke.recipe.stages import PhaseSpec, StageSpec

MODELS = (
    Checks,
    Launch,
    LogSpec,
    MetricSpec,
    MixSpec,
    PhaseSpec,
    Pipeline,
    Requires,
    ResumeSpec,
    Settings,
    Smoke,
    SourceSpec,
    StageSpec,
)


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from nodes(inner)


def test_it_is_a_draft_2020_12_schema_in_plain_json() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema


def test_it_has_every_key_and_refuses_others() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == {"extends", *Recipe.model_fields}
    assert schema["additionalProperties"] is False
    for model in MODELS:
        part = schema["$defs"][model.__name__]
        read = {"from", "keys", "preset"} if model in (Settings, Smoke) else set()
        assert set(part["properties"]) == {*model.model_fields, *read}
        assert part["additionalProperties"] is False


def test_every_key_has_a_description_on_one_line() -> None:
    """The docstring under each field is what an editor shows."""
    schema = json_schema()
    for part in (schema, *schema["$defs"].values()):
        assert part["description"]
        for name, field in part["properties"].items():
            described = field if "description" in field else schema["$defs"][field["$ref"].rpartition("/")[2]]
            assert described["description"].endswith("."), name
            assert "\n" not in described["description"], name


def test_every_reference_exists() -> None:
    schema = json_schema()
    references = {node["$ref"] for node in nodes(schema) if "$ref" in node}
    assert references == {f"#/$defs/{model.__name__}" for model in MODELS}


def test_keys_are_required_only_without_extends_and_those_of_a_section_without_from() -> None:
    schema = json_schema()
    assert schema["if"] == {"not": {"required": ["extends"]}}
    then = schema.pop("then")
    assert then["required"] == ["smoke"]
    assert then.pop("oneOf") == [{"required": [key]} for key in TRAINERS]
    without_from = {"not": {"required": ["from"]}}
    without_stages = {"not": {"required": ["stages"]}}
    length = {"if": without_from, "then": {"required": ["max_steps"]}}
    assert then["if"] == without_stages
    assert then["then"]["properties"] == {"smoke": length}
    (of_full,) = then.pop("allOf")  # `full` is read from some trainers
    assert of_full.pop("if") == {"not": {"anyOf": [{"required": [key]} for key in SELF_DESCRIBING]}}
    assert of_full["then"].pop("required") == ["full"]
    of_settings = {"if": without_from, "then": {"required": ["batch_size", "learning_rate"]}}
    assert of_full["then"].pop("properties") == {"full": of_settings}
    assert of_full["then"].pop("allOf") == [{"if": without_stages, "then": {"properties": {"full": length}}}]
    stage = then["properties"]["stages"]["items"]
    assert stage == {"required": ["name"], "properties": {"phases": {"items": {"required": ["name"]}}}}
    assert then["properties"]["mix"] == {"required": ["sources"]}  # rows may be counted from the corpus
    schema.pop("if")
    assert not [node for node in nodes(schema) if isinstance(node.get("required"), list)]


def test_each_call_returns_a_new_schema() -> None:
    json_schema()["properties"].clear()
    assert json_schema()["properties"]


def test_names_that_do_not_match_their_pattern_are_refused() -> None:
    """`grad_ratio: {aux: [1, 2]}` is a fault of the loader, so editors must underline it, too."""
    found = [node for node in nodes(json_schema()) if "patternProperties" in node]
    assert len(found) == 2
    assert all(node["additionalProperties"] is False for node in found)


def test_a_ratio_may_be_bounded_on_one_side_but_not_on_none() -> None:
    """Editors must accept and refuse what the loader does."""
    (pairs,) = json_schema()["$defs"]["Checks"]["properties"]["grad_ratio"]["patternProperties"].values()
    bounds = Draft202012Validator(pairs)
    assert all(bounds.is_valid(given) for given in ([0, 0.1], [None, 8], [0.01, None], [0.01, 8]))
    assert not any(bounds.is_valid(given) for given in ([None, None], [0, None], [-1, 2], [1], [1, 2, 3], ["1", 2]))
