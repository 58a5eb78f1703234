"""Load recipe files: every fault at once, files that cannot be read, and what loading imports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.errors import Fault, RecipeError
from pytest_smoke.recipe.load import load_cases, load_recipe
from tests.recipe.texts import GOOD, Faults


def test_a_valid_recipe_has_its_values_and_the_defaults(root: Path) -> None:
    (root / "r.smoke.yaml").write_text(GOOD)
    recipe = load_recipe(root / "r.smoke.yaml", root=root)
    assert recipe.full.effective_batch == 128
    assert recipe.full.learning_rate == 5e-4
    assert recipe.full.precision == "fp32"
    assert recipe.args == {"hidden_size": 64}
    assert recipe.smoke.run_steps is None


def test_all_faults_are_reported_at_once_sorted_by_place(faults: Faults) -> None:
    """Scalars, types, unknown keys, the task and the cells."""
    found = faults(
        "task: nowhere:Task\n"
        "args: {a: 1e-3, b: off}\n"
        "full: {batch_size: 0, lr: 1.0, learning_rate: 1.0, max_steps: 10}\n"
        "smoke: {mode: tail, max_steps: 10, max_steps: 20}\n"
        "ablate: {a: {full.x: 1}}\n"
    )
    places = [tuple(map(int, fault.split(":")[:2])) for fault in found]
    assert places == [(1, 7), (2, 11), (2, 20), (3, 20), (3, 23), (4, 15), (4, 36), (5, 14)]


def test_a_missing_file_is_a_fault(root: Path) -> None:
    with pytest.raises(RecipeError, match=r"^gone\.smoke\.yaml:1:1: file not found"):
        load_cases(root / "gone.smoke.yaml", root=root)


def test_a_folder_or_a_pipe_named_like_a_recipe_is_a_fault(root: Path) -> None:
    """A pipe without a writer must not block the session."""
    (root / "folder.smoke.yaml").mkdir()
    os.mkfifo(root / "pipe.smoke.yaml")
    for name in ("folder", "pipe"):
        with pytest.raises(RecipeError, match=rf"^{name}\.smoke\.yaml:1:1: "):
            load_cases(root / f"{name}.smoke.yaml", root=root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_a_fault_with_the_systems_message(root: Path) -> None:
    (root / "r.smoke.yaml").write_text(GOOD)
    (root / "r.smoke.yaml").chmod(0)
    with pytest.raises(RecipeError, match="Permission denied"):
        load_cases(root / "r.smoke.yaml", root=root)


def test_a_large_file_is_refused_without_being_read(root: Path) -> None:
    """A sparse file of 1 TB."""
    with open(root / "r.smoke.yaml", "wb") as stream:
        stream.truncate(10**12)
    with pytest.raises(RecipeError, match="1,000,000,000,000 bytes; a recipe has at most 1,048,576"):
        load_cases(root / "r.smoke.yaml", root=root)


def test_a_recipe_outside_the_root_is_named_by_its_absolute_path(root: Path, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("elsewhere") / "r.smoke.yaml"
    path.write_text(GOOD)
    assert load_cases(path, root=root)[0].path == path.as_posix()
    (root / "sub").mkdir()
    inside = root / "sub" / "r.smoke.yaml"
    inside.write_text(GOOD)
    assert load_cases(inside, root=root)[0].path == "sub/r.smoke.yaml"


def test_the_error_has_one_line_for_each_fault_sorted_by_place() -> None:
    late, early = Fault("a.yaml", 2, 1, "two"), Fault("a.yaml", 1, 9, "one")
    assert str(RecipeError([late, early, late])) == "a.yaml:1:9: one\na.yaml:2:1: two"


def test_loading_imports_neither_torch_nor_the_task(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess
    import sys

    (root / "a_task.py").write_text("raise RuntimeError('imported')\ndef Task(**args): ...\n")
    (root / "r.smoke.yaml").write_text(GOOD)
    script = (
        "import sys; from pathlib import Path; from pytest_smoke.recipe.load import load_cases;"
        f"load_cases(Path('r.smoke.yaml'), root=Path({str(root)!r}));"
        "print(sorted({'torch', 'numpy', 'a_task', 'pytest'} & set(sys.modules)))"
    )
    here = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env={**os.environ, "PYTHONPATH": str(here)}, capture_output=True
    )
    assert (done.stdout.decode().strip(), done.returncode) == ("[]", 0), done.stderr.decode()
