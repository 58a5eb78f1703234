"""Imports between rooms follow the tables in ARCHITECTURE.md, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pytest_smoke"
ARCHITECTURE = (PACKAGE.parent / "ARCHITECTURE.md").read_text()
ROOMS_HEADER = ("room", "what it is", "may import")
LIBRARIES_HEADER = ("library", "imported only by")
GROUND = "ground"
"""Name in the tables for all modules of the row that is described as ground; they may import each other alone."""
PATHS = sorted(PACKAGE.rglob("*.py"))

Table = dict[str, set[str]]


def table_rows(text: str, header: tuple[str, ...]) -> list[list[str]]:
    """Return the cells of the one Markdown table with this header."""
    rows: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if tuple(cells) == header:
            assert not rows, f"two tables with the header {header}"
            inside = True
        elif not cells:
            inside = False
        elif inside and not set("".join(cells)) <= set("-: "):
            rows.append(cells)
    assert rows, f"no table with the header {header}"
    return rows


def names_in(cell: str) -> set[str]:
    """Return the names in backticks: `judge` for `judge/`, `options` for `options.py`."""
    return {name.removesuffix(".py").rstrip("/") for name in re.findall(r"`([^`]+)`", cell)}


def rooms_table(text: str) -> Table:
    """Return what each room may import besides itself."""
    rows = table_rows(text, ROOMS_HEADER)
    (ground,) = [names_in(rooms) for rooms, what, _ in rows if what.startswith(GROUND)]
    table: Table = {}
    for rooms, _, allowed in rows:
        names = names_in(allowed) | (ground if GROUND in re.sub(r"`[^`]*`", "", allowed) else set())
        for room in names_in(rooms):
            assert room not in table, f"{room} has two rows"
            table[room] = names - {room}
    return table


def libraries_table(text: str) -> Table:
    """Return the rooms that may import each library."""
    return {
        library: names_in(cell) for names, cell in table_rows(text, LIBRARIES_HEADER) for library in names_in(names)
    }


def room_of(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def called_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


@cache
def imports(source: str) -> tuple[str, ...]:
    """Return the dotted names of all modules that a file imports anywhere, except those for type checkers alone."""
    return tuple(_imports(source))


def _imports(source: str) -> Iterator[str]:
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
            assert node.level == 0, "a relative import hides which room it is from"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and called_name(node.func) == "import_module":
            first = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            if isinstance(first, ast.Constant):
                yield str(first.value).rstrip(".")


def target_of(name: str) -> tuple[str, str]:
    """Return the room and the library of an imported name; one of them is empty."""
    top, _, rest = name.partition(".")
    return (rest.partition(".")[0], "") if top == "pytest_smoke" else ("", top)


def forbidden(source: str, room: str, rooms: Mapping[str, set[str]], libraries: Mapping[str, set[str]]) -> list[str]:
    """Return the imports of a file in `room` that a table does not allow."""
    found = []
    for name in imports(source):
        target, library = target_of(name)
        if target and target != room and target not in rooms[room]:
            found.append(name)
        if library and library not in sys.stdlib_module_names and room not in libraries.get(library, set()):
            found.append(name)
    return found


def imported_rooms() -> Table:
    """Return what each room really imports besides itself."""
    found: Table = {room_of(path): set() for path in PATHS}
    for path in PATHS:
        found[room_of(path)] |= {target_of(name)[0] for name in imports(path.read_text())} - {"", room_of(path)}
    return found


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_the_tables_allow(path: Path) -> None:
    assert forbidden(path.read_text(), room_of(path), rooms_table(ARCHITECTURE), libraries_table(ARCHITECTURE)) == []


def test_the_table_has_a_row_for_every_room_and_for_no_other() -> None:
    assert rooms_table(ARCHITECTURE).keys() == {room_of(path) for path in PATHS}


def test_the_table_allows_no_room_that_is_not_imported() -> None:
    """So that it describes the package. Ground modules are allowed as one."""
    table, real = rooms_table(ARCHITECTURE), imported_rooms()
    ground = {room for room in table if table[room] | {room} == table["errors"] | {"errors"}}
    unused = {room: sorted(allowed - ground - real[room]) for room, allowed in table.items()}
    assert {room: names for room, names in unused.items() if names} == {}


def test_no_room_imports_itself_through_others() -> None:
    try:
        TopologicalSorter(imported_rooms()).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(
    ("source", "room", "name"),
    [
        ("import torch", "judge", "torch"),
        ("import numpy", "judge", "numpy"),
        ("import requests", "train", "requests"),
        (
            "def late():\n    from pytest_smoke.judge.curve.trend import Trend",
            "train",
            "pytest_smoke.judge.curve.trend.Trend",
        ),
        ("from pytest_smoke import collect", "report", "pytest_smoke.collect"),
        ("from pytest_smoke.recipe.case import Case", "outcome", "pytest_smoke.recipe.case.Case"),
        ("import importlib\nimportlib.import_module('yaml')", "collect", "yaml"),
        ("from importlib import import_module\nimport_module(f'pytest_smoke.cli.{name}')", "judge", "pytest_smoke.cli"),
    ],
)
def test_a_forbidden_import_is_found(source: str, room: str, name: str) -> None:
    rooms, libraries = rooms_table(ARCHITECTURE), libraries_table(ARCHITECTURE)
    assert forbidden(source, room, rooms, libraries) == [name]


def test_an_import_for_type_checkers_is_ignored() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"
    assert forbidden(source, "judge", {"judge": set()}, {}) == []


def test_the_parser_of_the_tables_reads_rooms_ground_and_libraries() -> None:
    text = (
        "| room | what it is | may import |\n|---|---|---|\n| `a.py`, `b.py` | ground: this and that | ground |\n"
        "| `c/` | rooms | nothing |\n| `d/` | rooms | ground, `c` |\n\n"
        "| library | imported only by |\n|---|---|\n| `x`, `y` | `c`, `d` |\n"
    )
    assert rooms_table(text) == {"a": {"b"}, "b": {"a"}, "c": set(), "d": {"a", "b", "c"}}
    assert libraries_table(text) == {"x": {"c", "d"}, "y": {"c", "d"}}


HEAVY = ("torch", "yaml", "pydantic", "numpy")
LOADED = "import sys\n{code}\nprint([name for name in " + repr(HEAVY) + " if name in sys.modules])"


def loaded_by(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", LOADED.format(code=code)], capture_output=True, text=True, check=True)
    return run.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        "import pytest_smoke",
        "import pytest_smoke\nfor name in pytest_smoke.__all__: getattr(pytest_smoke, name)",
        *(
            f"import pytest_smoke.{module}"
            for module in (
                *("plugin", "hookspecs", "outcome", "events", "judge.curve.curve_judge", "judge.checks.check"),
                *("cli.judge", "cli.audit", "cli.probe"),
            )
        ),
    ],
)
def test_importing_the_plugin_the_public_api_or_the_curve_judge_imports_nothing_heavy(code: str) -> None:
    """A session without smoke runs must not pay for them."""
    assert loaded_by(code) == "[]"


def test_the_check_for_heavy_imports_can_fail() -> None:
    assert loaded_by("import pytest_smoke.recipe.load") == "['yaml', 'pydantic']"
