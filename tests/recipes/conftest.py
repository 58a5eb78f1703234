"""Data, tasks and a small language model that the tests of the recipes share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from recipes.address_tagger import AddressTagger
from recipes.address_tagger.corpus import Corpus, build_corpus
from recipes.latent_prefix import LatentPrefix
from recipes.latent_prefix.facts import Facts, load_facts
from recipes.latent_prefix.passages import Passages
from recipes.latent_prefix.pretrained import FOLDER_VARIABLE, passages_of

RECIPE = Path(__file__).parents[2] / "recipes" / "address_tagger.smoke.yaml"
LATENT_PREFIX = RECIPE.with_name("latent_prefix.smoke.yaml")
FEW_STEPS = 5


@pytest.fixture(scope="package")
def corpus() -> Corpus:
    """Return the corpus of the shipped recipe."""
    return build_corpus()


@pytest.fixture(scope="package")
def recipe() -> dict[str, Any]:
    """Return the shipped recipe as it is written."""
    data: dict[str, Any] = yaml.safe_load(RECIPE.read_text())
    return data


@pytest.fixture(scope="package")
def task(recipe: dict[str, Any]) -> AddressTagger:
    """Return the task of the shipped recipe."""
    return AddressTagger(**recipe["args"])


@pytest.fixture(scope="package")
def facts() -> Facts:
    """Return the facts of the shipped recipe."""
    return load_facts()


@pytest.fixture(scope="package")
def passages(facts: Facts) -> Passages:
    """Return the passages of the shipped recipe."""
    return passages_of(facts)


@pytest.fixture(scope="package")
def latent_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Cache the language model of the tests in a temporary folder."""
    folder = tmp_path_factory.mktemp("latent_prefix")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(folder))
        yield folder


@pytest.fixture(scope="package")
def latent_args() -> dict[str, Any]:
    """Return the arguments of the shipped recipe, with 5 steps of pretraining."""
    args: dict[str, Any] = yaml.safe_load(LATENT_PREFIX.read_text())["args"]
    return args | {"pretraining_steps": FEW_STEPS}


@pytest.fixture
def latent_task(latent_cache: Path, latent_args: dict[str, Any]) -> LatentPrefix:
    """Return a new task before its first phase."""
    return LatentPrefix(**latent_args)
