"""A recipe that extends another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_smoke.errors import RecipeError
from pytest_smoke.recipe.load import load_cases, load_recipe

BASE = """\
task: a_task:Task
args: {layers: [1, 2, 3], optimizer: {name: adamw, beta: 0.9}}
full:
  batch_size: 16
  learning_rate: 5.0e-4
  max_steps: 50000
smoke: {max_steps: 2500}
checks: {accept: [loss < 3, val > 1]}
"""


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        (root / f"{name}.smoke.yaml").write_text(text)


def faults_of(root: Path, name: str) -> list[str]:
    with pytest.raises(RecipeError) as refused:
        load_cases(root / f"{name}.smoke.yaml", root=root)
    return [str(fault) for fault in refused.value.faults]


def test_mappings_are_merged_and_lists_replaced(root: Path) -> None:
    write(
        root,
        base=BASE,
        child="extends: base.smoke.yaml\n"
        "args: {layers: [4], optimizer: {beta: 0.5}}\n"
        "full: {batch_size: 32}\n"
        "checks: {accept: []}\n",
    )
    recipe = load_recipe(root / "child.smoke.yaml", root=root)
    assert recipe.args == {"layers": [4], "optimizer": {"name": "adamw", "beta": 0.5}}
    assert (recipe.full.batch_size, recipe.full.max_steps) == (32, 50000)
    assert recipe.checks.accept == []


def test_a_recipe_may_replace_a_mapping_by_another_value_and_vice_versa(root: Path) -> None:
    write(root, base=BASE, child="extends: base.smoke.yaml\nargs: {optimizer: sgd, layers: {a: 1}}\n")
    assert load_recipe(root / "child.smoke.yaml", root=root).args == {"layers": {"a": 1}, "optimizer": "sgd"}


def test_the_path_is_relative_to_the_files_own_folder(root: Path) -> None:
    """Over several levels, the nearest file wins."""
    (root / "deep").mkdir()
    write(root, base=BASE, child="extends: deep/middle.smoke.yaml\nfull: {max_steps: 7000}\n")
    write(root / "deep", middle="extends: ../base.smoke.yaml\nfull: {max_steps: 6000, batch_size: 4}\n")
    full = load_recipe(root / "child.smoke.yaml", root=root).full
    assert (full.max_steps, full.batch_size, full.learning_rate) == (7000, 4, 5e-4)


def test_a_base_may_be_incomplete(root: Path) -> None:
    """Only the merged recipe is validated."""
    (root / "common.yaml").write_text("full: {learning_rate: 1.0e-3, batch_size: 8, max_steps: 100}\n")
    write(root, child="extends: common.yaml\ntask: a_task:Task\nsmoke: {max_steps: 10}\n")
    assert load_recipe(root / "child.smoke.yaml", root=root).full.batch_size == 8


def test_each_fault_is_in_the_file_that_has_its_text(root: Path) -> None:
    write(
        root,
        base=BASE.replace("batch_size: 16", "batch_size: 0").replace("max_steps: 50000", "max_steps: 0"),
        child="extends: base.smoke.yaml\nfull:\n  max_steps: -1\n  lr: 3\n",
    )
    batch_size, max_steps, unknown = faults_of(root, "child")
    assert batch_size.startswith("base.smoke.yaml:4:15: full.batch_size is 0")
    assert max_steps.startswith("child.smoke.yaml:3:14: full.max_steps is -1")
    assert unknown.startswith("child.smoke.yaml:4:3: unknown key lr")


def test_a_missing_key_is_reported_at_the_nearest_enclosing_mapping(root: Path) -> None:
    base = BASE.replace("  batch_size: 16\n", "")
    write(root, base=base, child="extends: base.smoke.yaml\nfull: {max_steps: 9}\n", bare="extends: base.smoke.yaml\n")
    assert faults_of(root, "child")[0].startswith("child.smoke.yaml:2:7: key full.batch_size is missing")
    assert faults_of(root, "bare")[0].startswith("base.smoke.yaml:4:3: key full.batch_size is missing")


def test_yaml_faults_of_all_files_are_reported_together(root: Path) -> None:
    write(root, base=BASE.replace("5.0e-4", "5e-4"), child="extends: base.smoke.yaml\nargs: {a: off}\n")
    found = faults_of(root, "child")
    assert [fault.split(" is ")[0] for fault in found] == ["base.smoke.yaml:5:18: 5e-4", "child.smoke.yaml:2:11: off"]


def test_a_base_that_cannot_be_read_is_reported_at_its_own_place(root: Path) -> None:
    write(root, base="task: [\n", child="extends: base.smoke.yaml\n")
    assert faults_of(root, "child")[0].startswith("base.smoke.yaml:2:1: not valid YAML")


@pytest.mark.parametrize(
    ("written", "fragments"),
    [
        ("gone.smoke.yaml", ["1:10: ", "no file gone.smoke.yaml", "relative to this file's folder"]),
        ("sub/gone.smoke.yaml", ["1:10: ", "no file sub/gone.smoke.yaml"]),
        (".", ["1:10: ", "no file"]),
        ("3", ["1:10: ", "extends is 3", "path of another recipe"]),
        ("''", ["1:10: ", "extends is the text ''", "path of another recipe"]),
        ("[a, b]", ["1:10: ", "extends is a list"]),
        ("", ["1:9: ", "empty (null)"]),
        ("off", ["1:10: ", "write false"]),
        ("child.smoke.yaml", ["1:10: ", "is circular", "child.smoke.yaml -> child.smoke.yaml"]),
        ('"a\\0b"', ["1:10: ", "no file"]),
    ],
)
def test_an_extends_that_leads_nowhere_is_reported_at_its_value(root: Path, written: str, fragments: list[str]) -> None:
    write(root, child=f"extends: {written}\ntask: a_task:Task\n")
    (fault,) = faults_of(root, "child")
    assert fault.startswith(f"child.smoke.yaml:{fragments[0]}"), fault
    for fragment in fragments:
        assert fragment in fault


def test_a_circle_is_reported_with_all_its_files(root: Path) -> None:
    """A symbolic link does not hide it."""
    os.symlink(root / "b.smoke.yaml", root / "link.smoke.yaml")
    write(root, a="extends: b.smoke.yaml\n", b="extends: c.smoke.yaml\n", c="\nextends: link.smoke.yaml\n")
    (fault,) = faults_of(root, "a")
    assert fault.startswith("c.smoke.yaml:2:10: extends link.smoke.yaml is circular")
    assert "b.smoke.yaml -> c.smoke.yaml -> b.smoke.yaml" in fault


def test_more_than_eight_bases_are_refused(root: Path) -> None:
    write(root, r0=BASE, **{f"r{i}": f"extends: r{i - 1}.smoke.yaml\n" for i in range(1, 20)})
    assert load_recipe(root / "r8.smoke.yaml", root=root).full.batch_size == 16
    (fault,) = faults_of(root, "r9")
    assert fault.startswith("r1.smoke.yaml:1:10: more than 8 recipes extend each other")


def test_a_changed_base_is_read_again(root: Path) -> None:
    """Files are cached by time and size."""
    write(root, base=BASE, child="extends: base.smoke.yaml\n")
    assert load_recipe(root / "child.smoke.yaml", root=root).full.max_steps == 50000
    write(root, base=BASE.replace("50000", "6000"))
    assert load_recipe(root / "child.smoke.yaml", root=root).full.max_steps == 6000


def test_cells_are_inherited_and_their_faults_are_in_the_base(root: Path) -> None:
    write(
        root,
        base=BASE + "ablate: {wide: {args.width: 9}}\n",
        child="extends: base.smoke.yaml\nablate: {low: {full.learning_rate: 1.0e-4}}\n",
    )
    cases = load_cases(root / "child.smoke.yaml", root=root)
    assert [case.name for case in cases] == ["constant", "constant[wide]", "constant[low]"]
    write(root, base=BASE + "ablate: {wide: {full.width: 9}}\n")
    assert faults_of(root, "child")[0].startswith("base.smoke.yaml:9:17: unknown key full.width")
