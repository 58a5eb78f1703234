"""The ablation table in real pytest sessions."""

from __future__ import annotations

import json

import pytest

from pytest_smoke.outcome import Outcome
from pytest_smoke.report.ablations import ablation_tables
from tests.plugin.conftest import Project

ABLATED = """\
task: tasks:Teacher
args: {momentum: 0.9}
full: {batch_size: 64, learning_rate: 0.05, warmup_steps: 20, max_steps: 20000, grad_clip_norm: 1.0}
smoke: {max_steps: 400, evaluate_every_steps: 80}
checks: {accept: [val_accuracy > 0.6]}
ablate:
  calm: {args.momentum: 0.0}
  hot: {full.learning_rate: 5.0}
"""


@pytest.mark.parametrize("workers", [["-n", "2"], ["-p", "no:xdist"]])
def test_the_table_is_the_same_with_xdist_and_from_verdicts_json(project: Project, workers: list[str]) -> None:
    project.recipe(base=ABLATED)
    result = project.run("--smoke", "--smoke-report", "out", *workers)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*= smoke runs =*",
            "ablations of good.smoke.yaml, mode constant",
            "cell      verdict * step  highest val_accuracy  change at the end * loss * changes",
            "baseline  promote * -     0.* (step *) * ± * (5 evals) * -",
            "calm      promote * -     0.* (step *) * ± * (5 evals) * args.momentum: 0",
            "hot       unstable (*) * full.learning_rate: 5",
        ]
    )
    outcomes = map(Outcome.from_dict, json.loads((project.path / "out" / "verdicts.json").read_text())["outcomes"])
    (table,) = ablation_tables(outcomes, width=600)
    result.stdout.fnmatch_lines([line.replace("[", "[[]") for line, _ in table], consecutive=True)


def test_a_single_cell_or_a_preflight_prints_no_ablation_table(project: Project) -> None:
    project.recipe(base=ABLATED)
    project.run("--smoke", "good.smoke.yaml::constant[calm]").stdout.no_fnmatch_line("ablations of *")
    project.run("--smoke-preflight").stdout.no_fnmatch_line("ablations of *")
