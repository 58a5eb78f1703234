"""The recipes and log lines of trainers that run as commands: each recipe is valid, and each log is read as said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_smoke.logs.log import ColumnNames
from pytest_smoke.monitor.command.growing_log import GrowingLog
from pytest_smoke.monitor.command.log_steps import logged_run, rate_difference
from pytest_smoke.recipe.command import CommandPlan, settings_not_passed
from pytest_smoke.recipe.load import load_cases

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
PAGES = {
    "nanoGPT and its forks": "smoke-nanogpt.md",
    "torchtitan": "smoke-torchtitan.md",
    "Megatron": "smoke-megatron.md",
    "axolotl": "smoke-axolotl.md",
    "LLaMA-Factory": "smoke-llama-factory.md",
}
RECIPE_AND_LOG = re.compile(r"```yaml title=\"\w+.smoke.yaml\"\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
TRAINERS = {
    trainer: found.groups()
    for trainer, page in PAGES.items()
    if (found := RECIPE_AND_LOG.search((HOW_TO / page).read_text()))
}
LOGS_ITS_RATE = ("Megatron", "axolotl", "LLaMA-Factory")
NOT_PASSED = {  # settings of the recipe that the trainer reads from its own configuration
    "nanoGPT and its forks": ["lr_schedule"],
    "torchtitan": ["lr_schedule", "precision"],
}


def test_every_trainer_has_a_page_with_a_recipe_and_a_log() -> None:
    assert list(TRAINERS) == list(PAGES)
    page = (HOW_TO / "smoke-a-command.md").read_text()
    assert [name for name, linked in PAGES.items() if f"[{name}]({linked})" not in page] == []


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_recipe_passes_on_every_setting_of_the_full_run(trainer: str, tmp_path: Path) -> None:
    (tmp_path / "a.smoke.yaml").write_text(TRAINERS[trainer][0])
    (case,) = load_cases(tmp_path / "a.smoke.yaml", root=tmp_path)
    assert settings_not_passed(case) == NOT_PASSED.get(trainer, [])
    assert not [word for word in CommandPlan.of(case, tmp_path).argv if "{" in word]


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_log_has_every_step_and_its_rate_follows_the_schedule(trainer: str, tmp_path: Path) -> None:
    recipe, text = TRAINERS[trainer]
    (tmp_path / "a.smoke.yaml").write_text(recipe)
    (case,) = load_cases(tmp_path / "a.smoke.yaml", root=tmp_path)
    path = tmp_path / ("log.jsonl" if text.startswith("{") else "log.txt")
    growing = GrowingLog(str(path), ColumnNames())
    path.write_text(text)
    log = growing.read(is_complete=False)
    assert log is not None, growing.problem
    run = logged_run(log.points, case.run_steps)
    assert run is not None
    first = run.spacing.first_step
    assert [row.step for row in run.steps] == list(range(first, first + 4))
    assert run.spacing.planned_points == case.run_steps
    losses = [row.loss for row in run.steps]
    assert losses == sorted(losses, reverse=True)
    rates = [(row.step, row.lr) for row in run.steps if row.lr is not None]
    assert len(rates) == (4 if trainer in LOGS_ITS_RATE else 0)
    assert rate_difference(rates, case.stages[0], first) is None
    assert case.recipe.checks.accept_unverified == ([] if trainer in LOGS_ITS_RATE else ["schedule"])
