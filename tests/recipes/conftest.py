"""One corpus and one task for all tests of the address tagger: both are always the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from recipes.address_tagger import AddressTagger
from recipes.address_tagger.corpus import Corpus, build_corpus

RECIPE = Path(__file__).parents[2] / "recipes" / "address_tagger.smoke.yaml"


@pytest.fixture(scope="package")
def corpus() -> Corpus:
    """The corpus of the shipped recipe."""
    return build_corpus()


@pytest.fixture(scope="package")
def recipe() -> dict[str, Any]:
    """The shipped recipe, as written."""
    data: dict[str, Any] = yaml.safe_load(RECIPE.read_text())
    return data


@pytest.fixture(scope="package")
def task(recipe: dict[str, Any]) -> AddressTagger:
    """The task of the shipped recipe."""
    return AddressTagger(**recipe["args"])
