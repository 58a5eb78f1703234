"""Criteria as a recipe has them: read with it, in reach of its steps, called by names of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_smoke.criteria import parse
from pytest_smoke.errors import RecipeError
from pytest_smoke.recipe.load import load_cases
from tests.recipe.test_stages import HEAD

PLAIN = "task: a_task:Task\nfull: {batch_size: 24, learning_rate: 5.0e-4, max_steps: 2000}\n"


def refused(root: Path, text: str) -> list[str]:
    """What is wrong with the recipe, `line:column: what`."""
    path = root / "a.smoke.yaml"
    path.write_text(text)
    try:
        load_cases(path, root=root, parse_criterion=parse)
    except RecipeError as error:
        return [str(fault).partition("a.smoke.yaml:")[2] for fault in error.faults]
    return []


@pytest.mark.parametrize(
    ("smoke", "criterion", "wrong"),
    [
        (
            "{max_steps: 800}",
            "mean(loss over steps 800-999) < 2",
            "it asks for step 999, and the smoke ends at step 800",
        ),
        ("{max_steps: 800}", "mean(loss over steps 700-800) < 2", ""),
        ("{max_steps: 800, run_steps: 300}", "loss < 2 over steps 200-400", "the smoke ends at step 300"),
        ("{max_steps: 800}", "loss < 2 by epoch 3", "it asks for an epoch, and the smoke declares no steps_per_epoch"),
        ("{max_steps: 800, steps_per_epoch: 100}", "loss < 2 by epoch 3", ""),
        ("{max_steps: 800}", "loss < 2 by step 1000", ""),
    ],
)
def test_a_criterion_asks_for_what_the_smoke_has(root: Path, smoke: str, criterion: str, wrong: str) -> None:
    """Else it costs the whole smoke to find out. `by step N` may lie beyond the end: it is then by the end."""
    found = refused(root, f"{PLAIN}smoke: {smoke}\nchecks:\n  accept:\n    - f1 > 0\n    - {criterion}\n")
    if not wrong:
        assert found == []
        return
    (said,) = found
    assert said.startswith(f"7:7: criterion {criterion!r}: ")
    assert said.endswith(wrong)


def test_a_stage_s_criterion_is_in_the_stage_s_own_steps(root: Path) -> None:
    """And in its own epochs."""
    stage = "- {{name: {0}, full_steps: 90, steps: 9, accept: [{1}]}}\n"
    last = "mean(loss over steps 5-{}) < 2"
    assert refused(root, HEAD + stage.format("A", "x < 1") + stage.format("B", last.format(9))) == []
    (said,) = refused(root, HEAD + stage.format("A", "x < 1") + stage.format("B", last.format(10)))
    assert said.endswith("it asks for step 10, and stage B ends at step 9")
    assert (
        "it asks for step 19, and the smoke ends at step 18"
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
    (said,) = refused(root, HEAD + epochs.format(""))
    assert said.endswith("it asks for an epoch, and stage A declares no steps_per_epoch")
    assert refused(root, HEAD + epochs.format("steps_per_epoch: 3, ")) == []


def test_the_full_run_s_criteria_may_ask_for_what_it_has(root: Path) -> None:
    """Nobody judges them here."""
    far = "checks: {full_accept: [mean(loss over steps 1500-1999) < 2, f1 > 0.5 by epoch 40]}\n"
    assert refused(root, f"{PLAIN}smoke: {{max_steps: 800}}\n{far}") == []


def test_two_criteria_of_one_list_have_two_names(root: Path) -> None:
    """Rows of a table are told apart by them; the two levels may share theirs."""
    accept = "checks:\n  accept:\n    - quality: f1 > 1\n    - f1 > 2\n    - quality: f1 > 3\n"
    (said,) = refused(root, f"{PLAIN}smoke: {{max_steps: 800}}\n{accept}")
    assert said == ("8:7: criterion 'quality: f1 > 3': checks.accept[0] is called 'quality' too; rename one")
    levels = "checks: {accept: [quality: f1 > 1, f1 > 2, f1 > 3], full_accept: [quality: f1 > 3]}\n"
    assert refused(root, f"{PLAIN}smoke: {{max_steps: 800}}\n{levels}") == []


@pytest.mark.parametrize(
    ("criteria", "fragment"),
    [
        ("checks: {accept: [mean(loss over stage C) < 2]}", "there is no stage C; known: A, B"),
        ("checks: {full_accept: [f1 >]}", "criterion 'f1 >'"),
        ("checks: {accept: [f1 > baseline.f1]}", "name its verdicts.json under checks.baseline"),
    ],
)
def test_criteria_are_read_with_the_stages(root: Path, criteria: str, fragment: str) -> None:
    """A stage that is not there, a text that is none, a baseline that nobody names."""
    path = root / "a.smoke.yaml"
    stages = "- {name: A, full_steps: 9, steps: 9}\n- {name: B, full_steps: 9, steps: 9}\n"
    path.write_text(HEAD + stages + criteria + "\n")
    with pytest.raises(RecipeError) as raised:
        load_cases(path, root=root, parse_criterion=parse)
    assert fragment in str(raised.value)


def test_criteria_may_have_names(root: Path) -> None:
    """As YAML spells them, a mapping of one, or as one text; wherever criteria stand."""
    path = root / "a.smoke.yaml"
    stages = "- {name: A, full_steps: 9, steps: 9, accept: [first token: x < 1]}\n"
    criteria = (
        "checks:\n  accept:\n    - gradient health: max(grad_norm) < 500\n    - 'quality: f1 > 1'\n    - f1 > 2\n"
    )
    path.write_text(HEAD + stages + criteria + "  full_accept: [{quality: f1 > 3}]\n")
    (found,) = load_cases(path, root=root, parse_criterion=parse)
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
            "checks.accept[0]: an entry is CRITERION, or NAME: CRITERION; this one has no text after quality:",
        ),
        ("{a: f1 > 1, b: f1 > 2}", "NAME: CRITERION; this one is a mapping of 2 keys (a, b)"),
    ],
)
def test_a_name_of_nothing_is_refused(root: Path, entry: str, fragment: str) -> None:
    """The line is the criterion's."""
    path = root / "a.smoke.yaml"
    path.write_text(HEAD + f"- {{name: A, full_steps: 9, steps: 9}}\nchecks:\n  accept: [{entry}]\n")
    with pytest.raises(RecipeError) as raised:
        load_cases(path, root=root, parse_criterion=parse)
    assert "a.smoke.yaml:7:" in str(raised.value)
    assert fragment in str(raised.value)


def test_a_stage_speaks_of_itself_alone(root: Path) -> None:
    """Its own criteria are asked in its own steps, where another stage has none."""
    path = root / "a.smoke.yaml"
    stages = (
        "- {name: A, full_steps: 9, steps: 9}\n- {name: B, full_steps: 9, steps: 9, accept: [x < 1 over stage A]}\n"
    )
    path.write_text(HEAD + stages)
    with pytest.raises(RecipeError, match=r"a\.smoke\.yaml:6:.*put one about stage A under checks\.accept"):
        load_cases(path, root=root, parse_criterion=parse)
