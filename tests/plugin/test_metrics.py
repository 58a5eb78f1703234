"""Which loss curve gets which verdict, in real pytest sessions."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import RECIPE, Project

WILD = "args: {momentum: 0.99}\nfull: {learning_rate: 5.0}\n"
LONG_TAIL = RECIPE.replace("max_steps: 400", "max_steps: 9000\n  run_steps: 2800\n  change: tweak-cosine-matters")


@pytest.mark.parametrize(("rate", "reason"), [("3.0e-3", ""), ("1.0e-9", "no-progress")])
def test_a_loss_that_falls_or_stays_flat_is_promoted(project: Project, rate: str, reason: str) -> None:
    project.recipe(base=RECIPE.replace("3.0e-3", rate))
    project.run("--smoke", "--smoke-report", "out").assert_outcomes(passed=1)
    (outcome,) = project.verdicts()
    assert (outcome["verdict"], outcome["reason"]) == ("promote", reason)


@pytest.mark.parametrize("at_step", [60, 200, 320])
def test_a_loss_that_rises_is_unstable_within_80_steps(project: Project, at_step: int) -> None:
    """The rise starts early, in the middle or near the end; the reported step is never before it."""
    project.recipe(base=RECIPE.replace("tasks:Teacher", "tasks:Unlearns"), extra=f"args: {{at_batch: {at_step}}}\n")
    project.run("--smoke", "--smoke-report", "out").assert_outcomes(failed=1)
    (outcome,) = project.verdicts()
    assert outcome["verdict"] == "unstable"
    assert at_step <= outcome["step"] < at_step + 80


def test_a_nan_loss_is_unstable_at_its_own_step(project: Project) -> None:
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


def test_a_decaying_schedule_is_invalid_and_constant_mode_finds_the_divergence_it_hides(project: Project) -> None:
    """The hint says to rerun in constant mode, and that run is unstable."""
    project.recipe()
    project.extending("wild", WILD + "smoke: {lr_schedule: cosine}\n")
    result = project.run("--smoke", "wild.smoke.yaml", "--smoke-report", "out")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["  hint: remove lr_schedule from `smoke`, or rerun with --smoke-mode constant, which overrides it"]
    )
    (masked,) = project.verdicts()
    assert (masked["verdict"], masked["reason"]) == ("invalid", "masked")
    constant = ("--smoke-mode", "constant")
    project.run("--smoke", "wild.smoke.yaml", "--smoke-report", "out", *constant).assert_outcomes(failed=1)
    (shown,) = project.verdicts()
    assert shown["verdict"] == "unstable"


def test_the_recipes_change_selects_the_mode_and_the_command_line_overrides_it(project: Project) -> None:
    project.recipe(base=LONG_TAIL)
    listed = ("--smoke", "--collect-only", "-q")
    project.run(*listed).stdout.fnmatch_lines(["good.smoke.yaml::long-tail", "1 test collected*"])
    overridden = project.run(*listed, "--smoke-mode", "constant")
    overridden.stdout.fnmatch_lines(["good.smoke.yaml::constant", "1 test collected*"])


def test_long_tail_mode_below_10000_steps_warns_and_is_still_promoted(project: Project) -> None:
    """The warning is printed below the table; the length of the full run does not depend on the mode."""
    project.recipe(base=LONG_TAIL)
    result = project.run("--smoke", "--smoke-report", "out")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "warning: good::long-tail: schedule: *2,655 of 2,800 steps at 80 % of the peak or more. "
            "The schedule has 9,000 steps, fewer than 10,000, so its cosine decays within the run"
        ]
    )
    (outcome,) = project.verdicts()
    assert outcome["facts"]["full_steps"] == 20000
