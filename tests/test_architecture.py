"""Arrows between rooms go one way, and heavy libraries stay in their rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pytest_smoke"

GROUND = {"errors", "events", "files", "outcome", "schedules", "text"}
MAY_IMPORT = {
    **{room: set() for room in ("errors", "events", "schedules", "text")},
    "outcome": set(),
    "files": {"outcome"},
    "criteria": {"outcome"},
    "recipe": {"errors", "criteria"},
    "mix": set(),
    "ner": set(),
    "spans": {"ner"},
    "diagnose": {"ner"},
    "audit": {"mix"},
    "logs": set(),
    "judge": {"recipe", "criteria", "mix", "ner", *GROUND},
    "train": {"recipe", "mix", *GROUND},
    "report": {"judge", "bisect", *GROUND},
    "monitor": {"recipe", "criteria", "judge", "train", "mix", "ner", *GROUND},
    "bisect": {"recipe", "judge", "report", *GROUND},
    "options": set(),
    "keys": set(),
    "collect": {"recipe", "criteria", "judge", "train", "report", "monitor", "bisect", "options", "keys", *GROUND},
    "plugin": {"collect", "options", "keys"},
    "cli": {"recipe", "criteria", "judge", "mix", "ner", "train", "report", "logs", *GROUND},
    "__main__": {"cli"},
    "__init__": set(),
}
"""Room: the rooms it may import, beside itself."""

ONLY_IN = {
    "torch": {"train"},
    "safetensors": {"train"},
    "onnx": {"train"},
    "onnxruntime": {"train"},
    "yaml": {"recipe"},
    "pydantic": {"recipe"},
    "pytest": {"plugin", "options", "keys", "collect"},
    "numpy": set(),
    "tensorboard": {"logs"},
    "pyarrow": {"mix"},
}
"""Library: the rooms that may import it."""


def room_of(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imports(source: str) -> Iterator[str]:
    """Dotted names of every module imported anywhere in a file, but for those only type checkers see."""
    tree = ast.parse(source)
    hidden = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for child in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which room they reach"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden(source: str, room: str) -> list[str]:
    """The imports of a file in `room` that break a rule."""
    found = []
    for name in imports(source):
        top, _, rest = name.partition(".")
        if top == "pytest_smoke" and (target := rest.partition(".")[0]) != room and target not in MAY_IMPORT[room]:
            found.append(name)
        if top in ONLY_IN and room not in ONLY_IN[top]:
            found.append(name)
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_import_keeps_to_the_table(path: Path) -> None:
    """The table is the one in ARCHITECTURE.md."""
    assert forbidden(path.read_text(), room_of(path)) == []


def test_the_table_has_no_circle() -> None:
    """Rooms can be put in an order in which each imports only earlier ones."""
    done: set[str] = set()
    while left := [room for room in MAY_IMPORT if room not in done]:
        free = [room for room in left if MAY_IMPORT[room] <= done]
        assert free, f"a circle among {left}"
        done |= set(free)


@pytest.mark.parametrize(
    ("source", "room", "name"),
    [
        ("import torch", "judge", "torch"),
        (
            "def late():\n    from pytest_smoke.judge.curve.trend import Trend",
            "run",
            "pytest_smoke.judge.curve.trend.Trend",
        ),
        ("from pytest_smoke import collect", "report", "pytest_smoke.collect"),
    ],
)
def test_a_forbidden_import_is_found(source: str, room: str, name: str) -> None:
    """The control of the table test, for late imports too."""
    assert forbidden(source, room) == [name]


def test_an_import_for_type_checkers_is_no_arrow() -> None:
    """It costs nothing at run time."""
    assert forbidden("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", "judge") == []


def test_the_table_is_the_one_in_architecture_md() -> None:
    """Each row of the document says what the test holds."""
    text = (PACKAGE.parent / "ARCHITECTURE.md").read_text()
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0].rstrip("/").removesuffix(".py") in MAY_IMPORT:
            named = {cell.strip().strip("`") for cell in cells[2].split(",")} - {"nothing"}
            rows[cells[0].rstrip("/").removesuffix(".py")] = named
    assert rows == {room: allowed for room, allowed in MAY_IMPORT.items() if room != "__init__"}


HEAVY = ("torch", "yaml", "pydantic", "numpy")
CHECK = "import sys\n{code}\nprint([name for name in " + repr(HEAVY) + " if name in sys.modules])"


def loaded_by(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", CHECK.format(code=code)], capture_output=True, text=True, check=True)
    return run.stdout.strip()


@pytest.mark.parametrize(
    "module",
    [
        *("pytest_smoke.plugin", "pytest_smoke.judge.curve.curve_judge"),
        *("pytest_smoke.cli.judge", "pytest_smoke.cli.audit", "pytest_smoke.cli.probe"),
    ],
)
def test_importing_the_plugin_or_the_judge_imports_nothing_heavy(module: str) -> None:
    """A session that uses no smoke must not pay for one."""
    assert loaded_by(f"import {module}") == "[]"


def test_the_check_for_heavy_imports_can_fail() -> None:
    """The recipe room does import yaml and pydantic."""
    assert loaded_by("import pytest_smoke.recipe.load") == "['yaml', 'pydantic']"
