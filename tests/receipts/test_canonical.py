"""Two recipes have one canonical form if and only if they mean the same."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.receipts.canonical import canonical_recipe, changes, fingerprint, shown, stored
from pytest_smoke.recipe.load import load_cases, settings_cases
from tests.receipts.conftest import Project

SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(width=32) | st.text(max_size=4)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
FULL = {"batch_size": 8, "learning_rate": 5e-4, "max_steps": 5000, "warmup_steps": 10}
VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "batch_size": st.integers(1, 64),
    "learning_rate": st.floats(1e-6, 1.0),
    "warmup_steps": st.integers(0, 100),
    "max_steps": st.integers(1000, 9000),
    "grad_clip_norm": st.none() | st.floats(0.1, 10.0),
    "precision": st.sampled_from(["fp32", "bf16", "fp16"]),
    "from_scratch": st.booleans(),
}


def sum_of(path: Path, root: Path) -> str:
    return fingerprint(canonical_recipe(load_cases(path, root=root)[0], root=root))


def of_settings(full: Mapping[str, Any], args: Mapping[str, Any], root: Path) -> dict[str, Any]:
    data = {"task": "tests.controls.tasks:Teacher", "full": dict(full), "args": args, "smoke": {"max_steps": 400}}
    case = settings_cases(data, path=root / "test_a.py", line=1, root=Path(__file__).parents[2])[0]
    return canonical_recipe(case, root=root)


def shuffled(tree: Any, order: random.Random) -> Any:
    if not isinstance(tree, dict):
        return tree
    keys = list(tree)
    order.shuffle(keys)
    return {key: shuffled(tree[key], order) for key in keys}


@given(tree=TREES, order=st.randoms())
def test_the_order_of_keys_does_not_change_a_fingerprint(tree: Any, order: random.Random) -> None:
    assert fingerprint(tree) == fingerprint(shuffled(tree, order))


@given(first=TREES, second=TREES)
def test_two_trees_have_one_fingerprint_only_if_they_are_equal(first: Any, second: Any) -> None:
    """`repr` tells 1 from 1.0 and from true; NaN is not equal to itself."""
    ordered = [repr(yaml.safe_dump(tree, sort_keys=True)) for tree in (first, second)]
    assert (fingerprint(first) == fingerprint(second)) == (ordered[0] == ordered[1])


@given(before=st.fixed_dictionaries(dict(VALUES)), after=st.fixed_dictionaries(dict(VALUES)))
def test_any_changed_setting_changes_the_fingerprint_and_is_named(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    root = Path(__file__).parent
    first, second = of_settings(before, {}, root), of_settings(after, {}, root)
    changed = {key for key in VALUES if before[key] != after[key]}
    assert (fingerprint(first) == fingerprint(second)) == (not changed)
    assert {text.partition(" ")[0] for text in changes(stored(first), stored(second))} == changed


@given(text=st.sampled_from(["0.001", "1.0e-3", "1.0e-03", "0.0010", "1_0.0e-4"]), order=st.randoms())
def test_comments_order_and_number_forms_do_not_change_the_fingerprint(
    text: str, order: random.Random, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "a.py").write_text("class A: ...\n")
    full = [f"  learning_rate: {text}  # peak\n", "  batch_size: 8\n", "\n  max_steps: 5000\n"]
    order.shuffle(full)
    sections = ["task: a:A\n", f"full:\n{''.join(full)}", "# a comment\nsmoke: {max_steps: 400}\n"]
    order.shuffle(sections)
    (folder / "a.smoke.yaml").write_text("".join(sections))
    plain = "task: a:A\nfull: {batch_size: 8, learning_rate: 0.001, max_steps: 5000}\nsmoke: {max_steps: 400}\n"
    (folder / "plain.smoke.yaml").write_text(plain)
    assert sum_of(folder / "a.smoke.yaml", folder) == sum_of(folder / "plain.smoke.yaml", folder)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("extends: lm.smoke.yaml\n", True),
        ("extends: lm.smoke.yaml\nfull: {grad_accum_steps: 1, lr_schedule: cosine}\n", True),
        ("extends: lm.smoke.yaml\nsmoke: {learning_rate: 5.0e-4, batch_size: 8, seed: 0}\n", True),
        ("extends: lm.smoke.yaml\nsmoke: {run_steps: 400, lr_schedule: constant, mode: constant}\n", True),
        ("extends: lm.smoke.yaml\nsmoke: {change: new-loss, args: {hidden_size: 16}}\n", True),
        ("extends: lm.smoke.yaml\nablate: {wide: {args.hidden_size: 32}}\nrequires: {device: cuda}\n", True),
        ("extends: lm.smoke.yaml\nsmoke: {run_steps: 300}\n", False),
        ("extends: lm.smoke.yaml\nsmoke: {seed: 1}\n", False),
        ("extends: lm.smoke.yaml\nsmoke: {batch_size: 4}\n", False),
        ("extends: lm.smoke.yaml\nsmoke: {pipeline: true}\n", False),
        ("extends: lm.smoke.yaml\nchecks: {resume: true}\n", False),
        ("extends: lm.smoke.yaml\nchecks: {full_accept: [val_f1 > 0.9]}\n", False),
        ("extends: lm.smoke.yaml\nargs: {hidden_size: 16.0}\n", False),
    ],
)
def test_what_counts_in_a_recipe(project: Project, text: str, same: bool) -> None:
    other = project.root / "other.smoke.yaml"
    other.write_text(text)
    assert (sum_of(other, project.root) == sum_of(project.recipe, project.root)) == same


def test_settings_of_a_config_count_wherever_they_are_written(project: Project) -> None:
    config = "batch_size: 8\nnum_gpus: 8\nlr: 5e-4\nmax_steps: 5000\nscheduler: cosine\nwarmup_steps: 0\n"
    (project.root / "full.yaml").write_text(config + "gradient_accumulation_steps: 1\nprecision: fp32\n")
    other = project.root / "other.smoke.yaml"
    rest = project.recipe.read_text().partition("smoke:")[2]
    full = "full: {from: full.yaml, grad_clip_norm: null}\n"
    other.write_text(f"task: model:Model\nargs: {{hidden_size: 16}}\n{full}smoke:{rest}")
    assert sum_of(other, project.root) == sum_of(project.recipe, project.root)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5e-4, "5e-4"),
        (1e-3, "1e-3"),
        (1.25e-05, "1.25e-5"),
        (-3e-4, "-3e-4"),
        (0.05, "0.05"),
        (0.0, "0.0"),
        (3.0, "3.0"),
        (float("nan"), "nan"),
        (None, "none"),
        (True, "true"),
        (16, "16"),
        ("bf16", "bf16"),
        ("", '""'),
        ([1, 2], "[1, 2]"),
        ("a\x1b[31m", "a\\x1b[31m"),
        ("x" * 50, f"{'x' * 37}..."),
    ],
)
def test_values_are_shown_as_people_write_them(value: Any, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        (
            {"stages": [{"name": "A", "steps": 5}, {"steps": 1}]},
            {"stages": [{"name": "A", "steps": 6}, {"steps": 2}]},
            ["stages[A].steps 5 -> 6", "stages[1].steps 1 -> 2"],
        ),
        ({"stages": [{"steps": 1}]}, {"stages": []}, ['stages no longer has {"steps": 1}']),
        (
            {"checks": {"accept": ["a > 1", "b > 1"]}},
            {"checks": {"accept": ["b > 1", "a > 2"]}},
            ["checks.accept a > 1 -> a > 2"],
        ),
        (
            {"checks": {"accept": ["a", "b"]}},
            {"checks": {"accept": ["b", "a"]}},
            ["checks.accept[0] a -> b", "checks.accept[1] b -> a"],
        ),
        ({"args": {"sizes": [1, 2]}}, {"args": {"sizes": [1, 2, 3]}}, ["args.sizes [1, 2] -> [1, 2, 3]"]),
        (
            {"command": ["{python}", "train.py", "--learning-rate", "{learning_rate}"]},
            {"command": ["python3", "train.py", "--learning-rate", "{learning_rate}"]},
            ["command[0] {python} -> python3"],
        ),
        (
            {"command": ["{python}", "train.py", "--learning-rate", "{learning_rate}"]},
            {"command": ["{python}", "train.py", "--learning-rate", "{learning_rate}", "--fast"]},
            ["command now has --fast"],
        ),
        ({"checks": {"accept": ["a", "a"]}}, {"checks": {"accept": ["a"]}}, ["checks.accept 2 entries -> 1"]),
    ],
)
def test_changes_inside_lists_name_the_entry(before: dict[str, Any], after: dict[str, Any], names: list[str]) -> None:
    assert changes(before, after) == names


@given(before=st.dictionaries(st.sampled_from("ab"), TREES), after=st.dictionaries(st.sampled_from("ab"), TREES))
def test_what_differs_has_a_name_and_what_is_equal_has_none(before: dict[str, Any], after: dict[str, Any]) -> None:
    first, second = stored(before), stored(after)
    assert bool(changes(first, second)) == (fingerprint(first) != fingerprint(second))
