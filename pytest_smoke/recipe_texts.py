"""The texts of recipes in `verdicts.json`, which has each of them once: all ablation cells of a recipe share one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

TABLE = "recipe_texts"
"""Key of the file with the texts by their SHA-256."""
TEXT = "recipe_text"
"""Fact with the text, while an outcome is not in the file."""
DIGEST = "recipe_text_sha256"
"""Fact with the SHA-256 of the text, in the file."""


def share_recipe_text(outcome: Mapping[str, Any], texts: dict[str, str]) -> Mapping[str, Any]:
    """Return the tree of an outcome as it is in the file, and add the text of its recipe to `texts`."""
    text = _fact(outcome, TEXT)
    if not isinstance(text, str):  # written in Python, or changed by hand
        return outcome
    digest = _digest(text)
    texts[digest] = text
    return _with_fact(outcome, TEXT, DIGEST, digest)


def restore_recipe_text(outcome: Mapping[str, Any], texts: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the inverse of `share_recipe_text`; an outcome whose text is not in `texts` stays as it is."""
    digest = _fact(outcome, DIGEST)
    text = texts.get(digest) if isinstance(digest, str) else None
    return outcome if text is None else _with_fact(outcome, DIGEST, TEXT, text)


def recipe_texts_of(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of a file by their SHA-256; those that do not have it were changed by hand and are left out.

    Files of earlier versions have none: there, each outcome has the text of its recipe.
    """
    table = report.get(TABLE)
    known = table.items() if isinstance(table, Mapping) else ()
    return {digest: text for digest, text in known if isinstance(text, str) and _digest(text) == digest}


def restored_outcomes(report: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Iterate over the outcomes of a file, each with the text of its recipe."""
    texts = recipe_texts_of(report)
    return (restore_recipe_text(outcome, texts) for outcome in report["outcomes"])


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()


def _fact(outcome: Any, name: str) -> Any:
    """Return the value of a fact; None if the outcome does not have it, or is not the tree of an outcome."""
    facts = outcome.get("facts") if isinstance(outcome, Mapping) else None
    return facts.get(name) if isinstance(facts, Mapping) else None


def _with_fact(outcome: Mapping[str, Any], old: str, new: str, value: str) -> dict[str, Any]:
    """Return the tree with another fact in the place of an old one."""
    facts = outcome["facts"].items()
    return {**outcome, "facts": dict((new, value) if key == old else (key, part) for key, part in facts)}
