"""What is shipped loads, and the README says what the project's own checks run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_smoke.judge.checks.preflight import preflight
from pytest_smoke.recipe.load import load_cases

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").rglob("*.smoke.yaml"))
CAMPAIGNS = sorted((ROOT / "campaigns").rglob("*.smoke.yaml"))
"""Ablations of the recipes; they take minutes each, so `pytest --smoke recipes` does not run them."""


def test_there_are_recipes() -> None:
    """An empty list would pass the tests below."""
    assert [path.name for path in RECIPES] == [
        "address_tagger.smoke.yaml",
        "address_tagger_ce_only.smoke.yaml",
        "char_lm.smoke.yaml",
        "latent_prefix.smoke.yaml",
    ]
    assert [path.name for path in CAMPAIGNS] == ["address_tagger.smoke.yaml", "latent_prefix.smoke.yaml"]


@pytest.mark.parametrize("path", [*RECIPES, *CAMPAIGNS], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_shipped_recipe_loads_and_is_a_fair_rehearsal(path: Path) -> None:
    """Without running it."""
    for case in load_cases(path, root=ROOT):
        assert {finding.status for finding in preflight(case)} == {"pass"}, case.name


@pytest.mark.parametrize("name", ["smoke", "test"])
def test_the_readmes_commands_are_the_ones_that_are_run(name: str) -> None:
    """.ci/run takes both from the README, and each installs the project and calls pytest."""
    command = subprocess.run(
        [sys.executable, ROOT / ".ci" / "readme_command", name], capture_output=True, text=True, check=True
    ).stdout
    assert re.match(r'pip install -c constraints\.txt -e "\.\[[a-z,]+\]" && pytest ', command)
    assert f"readme {name}" in (ROOT / ".ci" / "run").read_text()


def test_every_link_in_the_readme_leads_somewhere() -> None:
    """To a file of the project, that is."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_option_is_in_the_readme_or_its_pages() -> None:
    """A user must not need --help to learn that something exists."""
    text = "".join(page.read_text() for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])
    options = re.findall(r'"(--smoke[a-z-]*)"', (ROOT / "pytest_smoke" / "options.py").read_text())
    assert [option for option in options if option not in text] == []
