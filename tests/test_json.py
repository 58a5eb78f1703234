"""Numbers that JSON does not have are written in one form: as the texts of `files.json_value`."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.cli.arguments import print_json
from pytest_smoke.files import json_value, strict_json

PACKAGE = Path(__file__).parents[1] / "pytest_smoke"

OWN_DUMPS = {
    "files.py": "defines strict_json",
    "bisect/cache.py": "hashes the text and writes it nowhere",
    "recipe/diff.py": "compares the texts and writes them nowhere",
    "collect/report_folder.py": "keeps what it read, and refuses non-finite numbers (allow_nan=False)",
    "report/verdicts_json.py": "refuses non-finite numbers (allow_nan=False) in what is written",
    "collect/workers.py": "outcomes for the controller of pytest-xdist, read by the same module alone",
    "page/html.py": "refuses non-finite numbers (allow_nan=False), and needs compact separators",
    "train/export/package.py": "refuses non-finite numbers (allow_nan=False)",
    "train/predictions.py": "refuses non-finite numbers (allow_nan=False)",
    "train/checkpoints/io.py": "settings of a run, all of them finite",
    "train/checkpoints/manager.py": "the same settings, to compare them",
    "train/checkpoints/journal.py": "events for the next session, read by the same module alone",
}
"""Modules that call `json.dumps` themselves, and why."""


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_json_is_written_by_strict_json_alone(path: Path) -> None:
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("json.dumps", "json.dump", "json.JSONEncoder")
    ]
    assert not calls or path.relative_to(PACKAGE).as_posix() in OWN_DUMPS, f"lines {calls}"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


@given(VALUES)
def test_any_tree_becomes_json_that_every_parser_reads(tree: Any) -> None:
    assert json.loads(strict_json(tree), parse_constant=refuse) == json_value(tree)


@pytest.mark.parametrize(
    ("value", "text"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (1.5, "1.5")]
)
def test_float_reads_every_number_back(value: float, text: str) -> None:
    assert str(json_value(value)) == text
    assert repr(float(json_value(value))) == repr(value)


def test_commands_print_non_finite_numbers_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"norm": math.nan, "ratios": [math.inf, 2.0]})
    assert json.loads(capsys.readouterr().out, parse_constant=refuse) == {"norm": "NaN", "ratios": ["Infinity", 2.0]}
