"""Criteria are checked when a recipe is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_smoke.criteria import parse
from pytest_smoke.errors import RecipeError
from pytest_smoke.recipe.load import load_cases
from tests.recipe.test_stages import HEAD

PLAIN = "task: a_task:Task\nfull: {batch_size: 24, learning_rate: 5.0e-4, max_steps: 2000}\n"


def refused(root: Path, text: str) -> list[str]:
    """Return the faults of the recipe as `line:column: text`."""
    path = root / "a.smoke.yaml"
    path.write_text(text)
    try:
        load_cases(path, root=root)
    except RecipeError as error:
        return [str(fault).partition("a.smoke.yaml:")[2] for fault in error.faults]
    return []


@pytest.mark.parametrize(
    ("smoke", "criterion", "wrong"),
    [
        (
            "{max_steps: 800}",
            "mean(loss over steps 800-999) < 2",
            "it needs step 999, but the smoke run ends at step 800",
        ),
        ("{max_steps: 800}", "mean(loss over steps 700-800) < 2", ""),
        ("{max_steps: 800, run_steps: 300}", "loss < 2 over steps 200-400", "the smoke run ends at step 300"),
        (
            "{max_steps: 800}",
            "loss < 2 by epoch 3",
            "it needs the number of steps in an epoch; add steps_per_epoch to smoke",
        ),
        ("{max_steps: 800, steps_per_epoch: 100}", "loss < 2 by epoch 3", ""),
        ("{max_steps: 800}", "loss < 2 by step 1000", ""),
    ],
)
def test_a_criterion_beyond_the_smoke_run_is_refused(root: Path, smoke: str, criterion: str, wrong: str) -> None:
    """`by step N` may be after the end: it then means at the end."""
    found = refused(root, f"{PLAIN}smoke: {smoke}\nchecks:\n  accept:\n    - f1 > 0\n    - {criterion}\n")
    if not wrong:
        assert found == []
        return
    (fault,) = found
    assert fault.startswith(f"7:7: criterion {criterion!r}: ")
    assert fault.endswith(wrong)


def test_a_stages_criterion_counts_the_stages_own_steps_and_epochs(root: Path) -> None:
    stage = "- {{name: {0}, full_steps: 90, steps: 9, accept: [{1}]}}\n"
    last = "mean(loss over steps 5-{}) < 2"
    assert refused(root, HEAD + stage.format("A", "x < 1") + stage.format("B", last.format(9))) == []
    (fault,) = refused(root, HEAD + stage.format("A", "x < 1") + stage.format("B", last.format(10)))
    assert fault.endswith("it needs step 10, but stage B ends at step 9")
    assert (
        "it needs step 19, but the smoke run ends at step 18"
        in (
            refused(
                root,
                HEAD
                + stage.format("A", "x < 1")
                + stage.format("B", "x < 1")
                + f"checks: {{accept: [{last.format(19)}]}}\n",
            )[0]
        )
    )
    epochs = "- {{name: A, full_steps: 90, steps: 9, {}accept: [x < 1 by epoch 2]}}\n"
    (fault,) = refused(root, HEAD + epochs.format(""))
    assert fault.endswith("it needs the number of steps in an epoch; add steps_per_epoch to stage A")
    assert refused(root, HEAD + epochs.format("steps_per_epoch: 3, ")) == []


def test_a_criterion_for_the_full_run_may_be_beyond_the_smoke_run(root: Path) -> None:
    far = "checks: {full_accept: [mean(loss over steps 1500-1999) < 2, f1 > 0.5 by epoch 40]}\n"
    assert refused(root, f"{PLAIN}smoke: {{max_steps: 800}}\n{far}") == []


def test_a_name_is_used_once_in_a_list(root: Path) -> None:
    """`accept` and `full_accept` may share it."""
    accept = "checks:\n  accept:\n    - quality: f1 > 1\n    - f1 > 2\n    - quality: f1 > 3\n"
    (fault,) = refused(root, f"{PLAIN}smoke: {{max_steps: 800}}\n{accept}")
    assert fault == (
        "8:7: criterion 'quality: f1 > 3': the name 'quality' is already used by checks.accept[0]; rename one of them"
    )
    levels = "checks: {accept: [quality: f1 > 1, f1 > 2, f1 > 3], full_accept: [quality: f1 > 3]}\n"
    assert refused(root, f"{PLAIN}smoke: {{max_steps: 800}}\n{levels}") == []


@pytest.mark.parametrize(
    ("criteria", "fragment"),
    [
        ("checks: {accept: [mean(loss over stage C) < 2]}", "there is no stage C; known: A, B"),
        ("checks: {full_accept: [f1 >]}", "criterion 'f1 >'"),
        ("checks: {accept: [f1 > baseline.f1]}", "it needs a baseline; name a verdicts.json in checks.baseline"),
    ],
)
def test_unknown_stages_invalid_text_and_missing_baselines_are_refused(
    root: Path, criteria: str, fragment: str
) -> None:
    path = root / "a.smoke.yaml"
    stages = "- {name: A, full_steps: 9, steps: 9}\n- {name: B, full_steps: 9, steps: 9}\n"
    path.write_text(HEAD + stages + criteria + "\n")
    with pytest.raises(RecipeError) as raised:
        load_cases(path, root=root)
    assert fragment in str(raised.value)


def test_criteria_may_have_names(root: Path) -> None:
    """As a YAML mapping with one key, or as text, in every list of criteria."""
    path = root / "a.smoke.yaml"
    stages = "- {name: A, full_steps: 9, steps: 9, accept: [first token: x < 1]}\n"
    criteria = (
        "checks:\n  accept:\n    - gradient health: max(grad_norm) < 500\n    - 'quality: f1 > 1'\n    - f1 > 2\n"
    )
    path.write_text(HEAD + stages + criteria + "  full_accept: [{quality: f1 > 3}]\n")
    (found,) = load_cases(path, root=root)
    checks = found.recipe.checks
    assert checks.accept == ["gradient health: max(grad_norm) < 500", "quality: f1 > 1", "f1 > 2"]
    assert checks.full_accept == ["quality: f1 > 3"]
    assert found.recipe.stages[0].accept == ["first token: x < 1"]
    assert [parse(text).name for text in checks.accept] == ["gradient health", "quality", ""]


@pytest.mark.parametrize(
    ("entry", "fragment"),
    [
        ("{quality: f1 >}", "criterion 'quality: f1 >': column 14"),
        (
            "{quality: 3}",
            "checks.accept[0]: the entry has no text after 'quality:'; write CRITERION, or NAME: CRITERION",
        ),
        ("{a: f1 > 1, b: f1 > 2}", "the entry is a mapping with 2 keys (a, b); write CRITERION, or NAME: CRITERION"),
    ],
)
def test_a_name_without_a_criterion_is_refused_at_its_line(root: Path, entry: str, fragment: str) -> None:
    path = root / "a.smoke.yaml"
    path.write_text(HEAD + f"- {{name: A, full_steps: 9, steps: 9}}\nchecks:\n  accept: [{entry}]\n")
    with pytest.raises(RecipeError) as raised:
        load_cases(path, root=root)
    assert "a.smoke.yaml:7:" in str(raised.value)
    assert fragment in str(raised.value)


def test_a_stages_criterion_about_another_stage_is_refused(root: Path) -> None:
    path = root / "a.smoke.yaml"
    stages = (
        "- {name: A, full_steps: 9, steps: 9}\n- {name: B, full_steps: 9, steps: 9, accept: [x < 1 over stage A]}\n"
    )
    path.write_text(HEAD + stages)
    with pytest.raises(
        RecipeError,
        match=r"a\.smoke\.yaml:6:.*it is about stage A, not about the stage it belongs to; move it to checks\.accept",
    ):
        load_cases(path, root=root)
