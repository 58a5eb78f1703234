"""The `lr-applied` check."""

from __future__ import annotations

from dataclasses import replace

from pytest_smoke.events import LearningRateDiffers
from pytest_smoke.judge.checks.lr_applied import differs

OWN = LearningRateDiffers(step=50, group=0, scheduled=0.003, used=0.0, groups=1, planned_groups=1)


def test_a_difference_names_the_step_and_both_rates() -> None:
    finding = differs(OWN)
    assert (finding.status, finding.reason, finding.step) == ("fail", "other-learning-rate", 50)
    assert finding.text == "the optimizer used the learning rate 0 at step 50, the recipe schedules 0.003"
    assert "scheduler" in finding.hint


def test_a_rate_changed_by_the_optimizer_blames_the_optimizer() -> None:
    finding = differs(replace(OWN, within_step=True, group=1, groups=2, planned_groups=2))
    assert finding.text == (
        "optimizer.step changed the learning rate from 0.003, which the recipe schedules, to 0 at step 50 "
        "(parameter group 1 of 2, counted from 0)"
    )


def test_groups_that_were_added_are_counted() -> None:
    finding = differs(replace(OWN, groups=2), finding_id="lr-applied[A]")
    assert (finding.id, finding.reason) == ("lr-applied[A]", "parameter-groups-changed")
    assert finding.text.startswith("the optimizer has 2 parameter groups at step 50, it was made with 1")
