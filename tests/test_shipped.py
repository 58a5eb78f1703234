"""The shipped recipes, and what the README and the pages of `docs` promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_smoke.judge.checks.registry import DEFAULT
from pytest_smoke.recipe.load import load_cases

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").rglob("*.smoke.yaml"))
CAMPAIGNS = sorted((ROOT / "campaigns").rglob("*.smoke.yaml"))
"""Ablations of the recipes. Each takes minutes, so `pytest --smoke recipes` does not run them."""
PROSE = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if "reference" not in page.parts),
]
"""Pages that are written by hand; those in `docs/reference` list every option anyway."""


def test_shipped_recipes_are_found() -> None:
    """Without any, the tests below would pass."""
    assert [path.name for path in RECIPES] == [
        "address_tagger.smoke.yaml",
        "address_tagger_ce_only.smoke.yaml",
        "char_lm.smoke.yaml",
        "latent_prefix.smoke.yaml",
    ]
    assert [path.name for path in CAMPAIGNS] == ["address_tagger.smoke.yaml", "latent_prefix.smoke.yaml"]


@pytest.mark.parametrize("path", [*RECIPES, *CAMPAIGNS], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_shipped_recipe_passes_every_preflight_check(path: Path) -> None:
    for case in load_cases(path, root=ROOT):
        assert {finding.status for finding in DEFAULT.before_run(case)} == {"pass"}, case.name


@pytest.mark.parametrize("name", ["smoke", "test"])
def test_ci_runs_the_command_of_the_readme(name: str) -> None:
    """`.ci/run` takes both commands from the README; each installs the project and calls pytest."""
    command = subprocess.run(
        [sys.executable, ROOT / ".ci" / "readme_command", name], capture_output=True, text=True, check=True
    ).stdout
    assert re.match(r'pip install -c constraints\.txt -e "\.\[[a-z,]+\]" && pytest ', command)
    assert f"readme {name}" in (ROOT / ".ci" / "run").read_text()


def test_a_page_written_by_hand_explains_every_option() -> None:
    text = "".join(page.read_text() for page in PROSE)
    options = re.findall(r'"(--smoke[a-z-]*)"', (ROOT / "pytest_smoke" / "options.py").read_text())
    assert options
    assert [option for option in options if option not in text] == []
