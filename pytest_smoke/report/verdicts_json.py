"""`verdicts.json`: the outcomes of a session as strict JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from pytest_smoke.files import VERDICTS_SCHEMA, json_value
from pytest_smoke.outcome import Outcome
from pytest_smoke.recipe_texts import TABLE, share_recipe_text

_STRICT = json.JSONEncoder(check_circular=False, allow_nan=False).encode
_LOSSLESS = json.JSONEncoder(check_circular=False).encode
"""As `json.dumps` without indentation, which is encoded in C; with it, encoding takes four times as long."""
_SEPARATOR = ",\n   "
"""Between the keys of an outcome."""


def verdicts_json(outcomes: Iterable[Outcome]) -> str:
    """Render `{"schema": 1, "outcomes": [...], "recipe_texts": {...}}`, sorted by id."""
    return "".join(verdicts_of_trees(outcome.to_dict() for outcome in outcomes))


def verdicts_of_trees(outcomes: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Return the parts of the file, from the trees of outcomes in any order."""
    recipe_texts: dict[str, str] = {}
    ordered = sorted(outcomes, key=lambda tree: str(tree["id"]))
    texts = [tree_json(share_recipe_text(tree, recipe_texts)) for tree in ordered]
    return verdicts_parts(texts, recipe_texts)


def verdicts_parts(outcomes: Iterable[str], recipe_texts: Mapping[str, str]) -> Iterator[str]:
    """Yield the parts of the file.

    `outcomes`: as `tree_json` renders them, sorted by id. `recipe_texts`: those that they share, by their SHA-256.
    """
    yield f'{{\n "schema": {VERDICTS_SCHEMA},\n "outcomes": ['
    separator = "\n"
    for text in outcomes:
        yield f"{separator}  {text}"
        separator = ",\n"
    yield "]" if separator == "\n" else "\n ]"
    table = ",\n  ".join(f"{_STRICT(digest)}: {_STRICT(recipe_texts[digest])}" for digest in sorted(recipe_texts))
    shown = f"{{\n  {table}\n }}" if table else "{}"
    yield f',\n "{TABLE}": {shown}\n}}\n'


def tree_json(outcome: Mapping[str, Any]) -> str:
    """Render the tree of an outcome as it is in the file, with a line for each of its keys, findings and facts.

    The values of a series stay on one line.
    """
    return _lines(json_value(outcome), _STRICT)


def lossless_json(outcome: Mapping[str, Any]) -> str:
    """Render the same with NaN and infinities as `json.loads` reads them; other readers of JSON do not."""
    return _lines(outcome, _LOSSLESS)


def _lines(tree: Mapping[str, Any], encode: Callable[[Any], str]) -> str:
    lines = _SEPARATOR.join(f"{_key(key)}: {_value(value, encode)}" for key, value in tree.items())
    return f"{{\n   {lines}\n  }}"


@lru_cache(maxsize=1024)
def _key(key: str) -> str:
    """Render a key: all outcomes have the same few."""
    return _LOSSLESS(key)


def _value(value: Any, encode: Callable[[Any], str]) -> str:
    if isinstance(value, dict) and value:
        parts = f"{_SEPARATOR} ".join(f"{_key(key)}: {encode(part)}" for key, part in value.items())
        return f"{{\n    {parts}\n   }}"
    if isinstance(value, list) and value:
        return f"[\n    {f'{_SEPARATOR} '.join(map(encode, value))}\n   ]"
    return encode(value)
