"""The corpus of a recipe's `mix:`, and the rows that a mix without one must state."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_smoke.recipe.explain import Problem
from pytest_smoke.recipe.model import Source


def anchored(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The data of a recipe in `folder` with `mix.corpus` from the root of the file system; else unchanged.

    A recipe that extends it lies elsewhere.
    """
    mix = data.get("mix")
    corpus = mix.get("corpus") if isinstance(mix, dict) else None
    if not isinstance(mix, dict) or not isinstance(corpus, str) or not corpus:
        return data
    return {**data, "mix": {**mix, "corpus": os.path.abspath(folder / corpus)}}


def row_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    """A problem for each source without rows, where there is no corpus to count them in."""
    mix = data.get("mix")
    sources = mix.get("sources") if isinstance(mix, Mapping) and mix.get("corpus") is None else None
    for name, source in sources.items() if isinstance(sources, Mapping) else ():
        if isinstance(source, Mapping) and source.get("rows") is None:
            what = Source.model_fields["rows"].description
            text = f"key mix.sources.{name}.rows is missing: {what}".rstrip(".")
            yield Problem(keys=("mix", "sources", name), at_key=False, text=text)
