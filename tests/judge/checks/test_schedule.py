"""The `schedule` check and the evidence that it counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_smoke import schedules
from pytest_smoke.judge.checks.registry import DEFAULT
from pytest_smoke.judge.checks.schedule import evidence_needed, evidence_steps, schedule
from pytest_smoke.judge.curve.curve_judge import CurveJudge
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Recipe
from tests.judge.checks.cases import FULL, case


def finding_of(case: Case) -> Finding:
    (finding,) = schedule(case)
    return finding


def evidence_of(case: Case) -> int:
    (stage,) = case.stages
    return evidence_steps(case.mode, stage)


def test_constant_mode_has_the_steps_after_80_percent_of_the_warmup_as_evidence() -> None:
    assert evidence_of(case()) == 1700
    finding = finding_of(case())
    assert (finding.status, finding.observed, finding.bound) == ("pass", 1700, 1250)
    assert finding.text == (
        "constant mode: 1,000 warmup steps, peak learning rate 0.0005, 1,700 of 2,500 steps at 80 % of the peak or more"
    )


def test_a_warmup_longer_than_half_of_the_run_fails_with_the_length_that_would_pass() -> None:
    short = finding_of(case(max_steps=1599))
    assert (short.status, short.reason) == ("fail", "too-little-evidence")
    assert short.text == (
        "799 of 1,599 steps are at 80 % of the full run's peak learning rate or more; constant mode needs 800"
    )
    assert short.hint == "set smoke.max_steps to 1600 or more"
    assert finding_of(case(max_steps=1600)).status == "pass"


@given(warmup=st.integers(0, 3000), steps=st.integers(1, 5000))
def test_the_hint_of_constant_mode_is_the_smallest_length_that_passes(warmup: int, steps: int) -> None:
    finding = finding_of(case(full={"warmup_steps": warmup}, max_steps=steps))
    assume(finding.reason == "too-little-evidence")
    enough = int(finding.hint.split()[3])
    assert finding_of(case(full={"warmup_steps": warmup}, max_steps=enough)).status == "pass"
    assert finding_of(case(full={"warmup_steps": warmup}, max_steps=enough - 1)).status == "fail"


def test_a_cosine_is_masked_and_says_how_far_its_learning_rate_had_decayed() -> None:
    """Warm-up 1,000 of 3,000: 30.9 % of the peak at step 2,250, where the full run diverged."""
    finding = finding_of(case(lr_schedule="cosine", max_steps=3000))
    assert (finding.status, finding.reason) == ("fail", "masked")
    assert finding.text == (
        "lr_schedule is 'cosine', constant mode requires 'constant'. At step 2250 the learning rate is 31 % of its "
        "peak, and no step after 1590 is at 80 % or more: a divergence would not show"
    )
    assert finding.hint == ("remove lr_schedule from `smoke`, or rerun with --smoke-mode constant, which overrides it")
    assert evidence_of(case(lr_schedule="cosine", max_steps=3000)) == 0


@pytest.mark.parametrize(
    ("steps", "run_steps", "status", "reason"),
    [
        (10_000, None, "pass", ""),
        (10_000, 3_300, "pass", ""),
        (10_000, 2_000, "fail", "too-little-evidence"),
        (9_000, None, "warn", "short-horizon"),
        (4_000, None, "fail", "too-little-evidence"),
    ],
)
def test_long_tail_mode_needs_2500_steps_of_evidence(
    steps: int, run_steps: int | None, status: str, reason: str
) -> None:
    """A horizon below 10,000 steps warns if it still has them."""
    changes = {} if run_steps is None else {"run_steps": run_steps}
    finding = finding_of(case(mode="long-tail", max_steps=steps, **changes))
    assert (finding.status, finding.reason) == (status, reason)


@pytest.mark.parametrize(
    ("key", "value", "reason", "words"),
    [
        (
            "learning_rate",
            1e-4,
            "different-learning-rate",
            "learning_rate is 0.0001 in the smoke run and 0.0005 in the full run",
        ),
        ("warmup_steps", 100, "different-warmup", "warmup_steps is 100 in the smoke run and 1,000 in the full run"),
    ],
)
def test_a_schedule_that_differs_from_the_full_run_fails_even_with_enough_evidence(
    key: str, value: Any, reason: str, words: str
) -> None:
    finding = finding_of(case(**{key: value}))
    assert (finding.status, finding.reason) == ("fail", reason)
    assert words in finding.text
    assert finding.hint == f"remove {key} from `smoke`"


def test_a_warmup_longer_than_the_schedule_fails_and_the_other_checks_are_still_made() -> None:
    findings = DEFAULT.before_run(case(mode="long-tail", max_steps=800))
    assert [finding.id for finding in findings] == ["batch-geometry", "schedule", "settings"]
    assert (findings[1].status, findings[1].reason) == ("fail", "warmup-too-long")
    assert findings[1].text == "the warmup of 1,000 steps does not end within the 800 steps of the schedule"


def test_a_smoke_run_as_long_as_the_full_run_warns() -> None:
    """It saves nothing; most likely one of the two lengths is a typing error."""
    finding = finding_of(case(full={"max_steps": 2500}))
    assert (finding.status, finding.reason) == ("warn", "not-shorter")


def test_preflight_and_curve_judge_count_the_same_evidence() -> None:
    """Without a warmup the very first step is evidence."""
    judge = CurveJudge(planned_points=2500, evidence_needed=2500, peak_lr=5e-4)
    tail = case(mode="long-tail", full={"warmup_steps": 0}, max_steps=10_000, run_steps=2500)
    assert evidence_of(tail) == 2500
    for step in range(2500):
        judge.add(step, 1 + 3 / (1 + step), lr=5e-4 * schedules.long_tail(0, 10_000)(step))
    assert judge.finish().verdict == "promote"


def test_constant_mode_needs_half_of_the_steps_rounded_up() -> None:
    (stage,) = case(max_steps=2501).stages
    assert evidence_needed("constant", stage) == 1251


def staged(**b: Any) -> Case:
    full = {key: value for key, value in FULL.items() if key != "max_steps"} | {"warmup_steps": 20}
    stages = [
        {"name": "A", "full_steps": 2000, "steps": 200},
        {"name": "B", "full_steps": 3000, "steps": 200, **b},
    ]
    recipe = Recipe.model_validate({"task": "a:B", "full": full, "smoke": {}, "stages": stages})
    return Case(path="a.smoke.yaml", recipe=recipe, mode="constant")


def test_the_worst_stage_decides_and_is_the_only_one_in_the_text() -> None:
    finding = finding_of(staged(warmup_steps=150))
    assert (finding.status, finding.reason, finding.key) == ("fail", "too-little-evidence", "stages[1]")
    assert finding.text == (
        "stage B: 80 of 200 steps are at 80 % of the full run's peak learning rate or more; constant mode needs 100"
    )
    assert finding.hint == "set the steps of stage B to 240 or more"
    assert finding.data["stages"]["A"] == {"evidence_steps": 184, "evidence_needed": 100}
    sound = finding_of(staged())
    assert sound.status == "pass"
    assert sound.text.count("184 of 200 steps at 80 % of the peak or more") == 2
