"""Every Python example of the pages written by hand compiles, and what it imports from the package exists."""

from __future__ import annotations

import ast
import importlib
import re
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples() -> Iterator[tuple[str, str]]:
    """Yield page and source of each example."""
    pages = [page for page in sorted((ROOT / "docs").rglob("*.md")) if "reference" not in page.parts]
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *pages]:
        for source in BLOCK.findall(page.read_text("utf-8")):
            yield page.relative_to(ROOT).as_posix(), source


def missing_names(source: str) -> list[str]:
    """Return the imported names of pytest_smoke that do not exist. Raises SyntaxError."""
    missing = []
    for node in ast.walk(ast.parse(textwrap.dedent(source))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "pytest_smoke":
            module = importlib.import_module(node.module or "")
            names = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            submodules = getattr(module, "__path__", None)
            missing += [
                f"{node.module}.{name}"
                for name in names
                if submodules is None or find_spec(f"{node.module}.{name}") is None
            ]
    return missing


def test_there_are_examples() -> None:
    assert len(list(examples())) >= 5


@pytest.mark.parametrize(("page", "source"), list(examples()))
def test_an_example_compiles_and_imports_existing_names(page: str, source: str) -> None:
    assert missing_names(source) == []


def test_a_name_that_does_not_exist_is_found() -> None:
    assert missing_names("from pytest_smoke import Outcome, Outcom, schedules\n") == ["pytest_smoke.Outcom"]
    assert missing_names("from pytest_smoke.schedules import cosine, gone\n") == ["pytest_smoke.schedules.gone"]
