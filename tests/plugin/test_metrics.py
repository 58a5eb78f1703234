"""How the framework reads a smoke, each reading in a real session."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import RECIPE, Project

WILD = "args: {momentum: 0.99}\nfull: {learning_rate: 5.0}\n"
LONG_TAIL = RECIPE.replace("max_steps: 400", "max_steps: 9000\n  run_steps: 2800\n  change: tweak-cosine-matters")


@pytest.mark.parametrize(("rate", "reason"), [("3.0e-3", ""), ("1.0e-9", "no-progress")])
def test_finite_and_trending_down_or_sideways_promotes(project: Project, rate: str, reason: str) -> None:
    """Sideways says so."""
    project.recipe(base=RECIPE.replace("3.0e-3", rate))
    project.run("--smoke", "--smoke-report", "out").assert_outcomes(passed=1)
    (outcome,) = project.verdicts()
    assert (outcome["verdict"], outcome["reason"]) == ("promote", reason)


@pytest.mark.parametrize("at_step", [60, 200, 320])
def test_a_trend_up_at_any_point_is_unstable(project: Project, at_step: int) -> None:
    """Early, in the middle, and near the end: and never before it happens."""
    project.recipe(base=RECIPE.replace("tasks:Teacher", "tasks:Unlearns"), extra=f"args: {{at_batch: {at_step}}}\n")
    project.run("--smoke", "--smoke-report", "out").assert_outcomes(failed=1)
    (outcome,) = project.verdicts()
    assert outcome["verdict"] == "unstable"
    assert at_step <= outcome["step"] < at_step + 80


def test_a_loss_that_is_not_finite_is_unstable_in_one_step(project: Project) -> None:
    """There is nothing to wait for."""
    project.recipe(base=RECIPE.replace("tasks:Teacher", "spoilt:Spoilt"))
    (project.path / "spoilt.py").write_text(
        "import tasks\nclass Spoilt(tasks.Teacher):\n"
        "    def batches(self, *args, **kwargs):\n"
        "        for number, batch in enumerate(super().batches(*args, **kwargs)):\n"
        "            yield {**batch, 'points': batch['points'] * (float('nan') if number == 150 else 1.0)}\n"
    )
    project.run("--smoke", "--smoke-report", "out").assert_outcomes(failed=1)
    (outcome,) = project.verdicts()
    assert (outcome["verdict"], outcome["reason"], outcome["step"]) == ("unstable", "non-finite", 150)


def test_calm_in_a_decaying_smoke_is_invalid_and_constant_mode_shows_what_it_hid(project: Project) -> None:
    """The smoke that lied: its hint says to run in constant mode, and that run is unstable."""
    project.recipe()
    project.extending("wild", WILD + "smoke: {lr_schedule: cosine}\n")
    result = project.run("--smoke", "wild.smoke.yaml", "--smoke-report", "out")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["  hint: drop lr_schedule from smoke:, or run it again with --smoke-mode constant*"])
    (masked,) = project.verdicts()
    assert (masked["verdict"], masked["reason"]) == ("invalid", "masked")
    constant = ("--smoke-mode", "constant")
    project.run("--smoke", "wild.smoke.yaml", "--smoke-report", "out", *constant).assert_outcomes(failed=1)
    (shown,) = project.verdicts()
    assert shown["verdict"] == "unstable"


def test_the_change_picks_the_mode_and_the_command_line_overrides_it(project: Project) -> None:
    """The item's id says which."""
    project.recipe(base=LONG_TAIL)
    listed = ("--smoke", "--collect-only", "-q")
    project.run(*listed).stdout.fnmatch_lines(["good.smoke.yaml::long-tail", "1 test collected*"])
    overridden = project.run(*listed, "--smoke-mode", "constant")
    overridden.stdout.fnmatch_lines(["good.smoke.yaml::constant", "1 test collected*"])


def test_a_long_tail_under_10000_steps_warns_and_is_promoted_on_its_evidence(project: Project) -> None:
    """The warning stands beside the table; the full run keeps its own schedule and length in every mode."""
    project.recipe(base=LONG_TAIL)
    result = project.run("--smoke", "--smoke-report", "out")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["warning: good::long-tail: schedule: *max_steps 9000 is under the 10000 that keep a cosine's tail *"]
    )
    (outcome,) = project.verdicts()
    assert outcome["facts"]["full_steps"] == 20000
