"""Faults of ablation cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_smoke.recipe.load import load_cases
from tests.recipe.texts import FULL, HEAD, SMOKE, Faults, check

CELLS = [
    ("{a: {args.x: 1, full.batch_size: 2}}", ["4:25: ", "cell a changes 2 settings", "args.x, full.batch_size"]),
    ("{a: {batch_size: 2}}", ["4:14: ", "batch_size", "did you mean full.batch_size?"]),
    ("{a: {smoke.max_steps: 2}}", ["4:14: ", "smoke.max_steps", "(args.KEY, full.KEY), or smoke.seed"]),
    ("{a: {smoke.seed: -1}}", ["4:26: ", "smoke.seed is -1", "0 or more"]),
    ("{a: {smoke.seed: 0}}", ["4:26: ", "is 0 in the baseline, too", "changes nothing"]),
    ("{a: {args: 2}}", ["4:14: ", "args is not a setting"]),
    ("{a: {args.: 2}}", ["4:14: ", "args. is not a setting"]),
    ("{a: {full.batchsize: 2}}", ["4:14: ", "unknown key full.batchsize", "did you mean batch_size?"]),
    ("{a: {full.batch_size: 0}}", ["4:31: ", "cell a", "full.batch_size is 0", "1 or more"]),
    ("{a: {full.batch_size: 1e1}}", ["4:31: ", "write 1.0e+1"]),
    (
        "{a: {full.batch_size.x: 1}}",
        ["4:14: ", "full.batch_size.x does not exist: full.batch_size is 8, not a mapping"],
    ),
    ("{a: {full.loss_weights.ce: x}}", ["4:36: ", "full.loss_weights.ce is the text 'x'", "a number"]),
    ("{a: {full.loss_weights: {ce: x}}}", ["4:38: ", "full.loss_weights.ce is the text 'x'"]),
    ("{a: {full.batch_size: 8}}", ["4:31: ", "is 8 in the baseline, too", "changes nothing"]),
    ("{a: {full.precision: fp32}}", ["4:30: ", "the text 'fp32' in the baseline, too"]),
    ("{a: 3}", ["4:13: ", "ablate.a is 3", "a mapping"]),
]


@pytest.mark.parametrize(("cells", "fragments"), CELLS)
def test_a_faulty_cell_is_reported_in_the_cell_and_not_in_the_baseline(
    faults: Faults, cells: str, fragments: list[str]
) -> None:
    (fault,) = faults(f"{HEAD}{FULL}{SMOKE}ablate: {cells}\n")
    check(fault, fragments)


def test_a_cell_cannot_change_a_key_inside_a_number(faults: Faults) -> None:
    """New arguments are allowed, because a task has defaults."""
    text = f"{HEAD}args: {{a: 1}}\n{FULL}{SMOKE}ablate: {{c: {{args.a.b: 1}}}}\n"
    (fault,) = faults(text)
    check(fault, ["5:14: ", "args.a.b does not exist: args.a is 1, not a mapping"])


def test_all_cells_of_a_recipe_share_one_table_of_cells(tmp_path: Path) -> None:
    """A table for each of them would make the memory of a recipe grow with the square of its cells."""
    (tmp_path / "tasks.py").write_text("class Toy:\n    def __init__(self, x=0): ...\n")
    text = (
        "task: tasks:Toy\nargs: {x: 1}\n"
        "full: {batch_size: 8, learning_rate: 0.1, max_steps: 2000}\nsmoke: {max_steps: 100}\n"
    )
    (tmp_path / "a.smoke.yaml").write_text(f"{text}ablate: {{a: {{args.x: 2}}, b: {{args.x: 3}}}}\n")
    baseline, *cells = load_cases(tmp_path / "a.smoke.yaml", root=tmp_path)
    assert [case.recipe.args for case in cells] == [{"x": 2}, {"x": 3}]
    assert all(case.recipe.ablate is baseline.recipe.ablate for case in cells)
    assert baseline.recipe.ablate == {"a": {"args.x": 2}, "b": {"args.x": 3}}
