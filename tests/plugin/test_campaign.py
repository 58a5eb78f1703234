"""The table of a recipe's cells, in real sessions."""

from __future__ import annotations

import json

import pytest

from pytest_smoke.outcome import Outcome
from pytest_smoke.report.campaign import campaign_table, campaigns
from tests.plugin.conftest import Project

CAMPAIGN = """\
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
def test_cells_are_compared_wherever_they_ran(project: Project, workers: list[str]) -> None:
    """And verdicts.json alone gives the same table."""
    project.recipe(base=CAMPAIGN)
    result = project.run("--smoke", "--smoke-report", "out", *workers)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*= smokes =*",
            "campaign good.smoke.yaml constant",
            "cell      verdict * step  highest val_accuracy  drift at the end * loss * changes",
            "baseline  promote * -     0.* at * ± * over 5 * -",
            "calm      promote * -     0.* at * ± * over 5 * args.momentum: 0",
            "hot       unstable (*) * full.learning_rate: 5",
        ]
    )
    outcomes = map(Outcome.from_dict, json.loads((project.path / "out" / "verdicts.json").read_text())["outcomes"])
    (campaign,) = campaigns(outcomes)
    result.stdout.fnmatch_lines([line.replace("[", "[[]") for line, _ in campaign_table(campaign)], consecutive=True)


def test_one_cell_and_a_preflight_have_no_campaign(project: Project) -> None:
    """There is nothing to compare."""
    project.recipe(base=CAMPAIGN)
    project.run("--smoke", "good.smoke.yaml::constant[calm]").stdout.no_fnmatch_line("campaign *")
    project.run("--smoke-preflight").stdout.no_fnmatch_line("campaign *")
