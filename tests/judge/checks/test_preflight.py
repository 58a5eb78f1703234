"""Is it a fair rehearsal? The sentences, and the arithmetic behind them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_smoke import schedules
from pytest_smoke.judge.checks.preflight import (
    batch_geometry,
    evidence_needed,
    evidence_steps,
    preflight,
    rehearsal,
    schedule,
)
from pytest_smoke.judge.curve.curve_judge import CurveJudge
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Mode, Recipe

FULL: dict[str, Any] = {
    "batch_size": 16,
    "grad_accum_steps": 8,
    "learning_rate": 5e-4,
    "warmup_steps": 1000,
    "max_steps": 50_000,
    "grad_clip_norm": 1.0,
}


def case(
    *, full: dict[str, Any] | None = None, mode: Mode = "constant", args: dict[str, Any] | None = None, **smoke: Any
) -> Case:
    recipe = Recipe.model_validate(
        {"task": "a:B", "args": args or {}, "full": {**FULL, **(full or {})}, "smoke": {"max_steps": 2500, **smoke}}
    )
    return Case(path="a.smoke.yaml", recipe=recipe, mode=mode)


def test_the_seed_case_of_a_small_effective_batch_has_its_exact_sentence() -> None:
    """A smoke at 8 passed; the run at 128 diverged."""
    finding = batch_geometry(case(batch_size=8, grad_accum_steps=1))
    assert finding.status == "fail"
    assert finding.text == (
        "effective batch 8 (8 x 1 x 1) is not the full run's 128 (16 x 8 x 1): the smoke's gradient noise is 4.0x "
        "larger, so it cannot see what the full run will"
    )


@given(ours=st.tuples(*[st.integers(1, 64)] * 3), theirs=st.tuples(*[st.integers(1, 64)] * 3))
def test_only_the_product_of_the_geometry_counts(ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    """And the noise that is named is the root of the ratio of products."""
    keys = ("batch_size", "grad_accum_steps", "world_size")
    finding = batch_geometry(case(full=dict(zip(keys, theirs, strict=True)), **dict(zip(keys, ours, strict=True))))
    a, b = math.prod(ours), math.prod(theirs)
    assert (finding.status == "pass") == (a == b)
    if a != b:
        word = "larger" if a < b else "smaller"
        assert f"{math.sqrt(max(a, b) / min(a, b)):.1f}x {word}" in finding.text


def test_constant_evidence_is_what_is_left_after_the_warm_up() -> None:
    """The design's own figure: 2,500 steps with 1,000 of warm-up have 1,700 at 80 % or more."""
    assert evidence_steps(case()) == 1700
    assert schedule(case()).status == "pass"


def test_a_warm_up_that_eats_more_than_half_of_the_window_fails_and_says_what_would_do() -> None:
    """And what it says would do does."""
    short = schedule(case(max_steps=1599))
    assert (short.status, short.reason) == ("fail", "evidence")
    assert short.text.startswith("799 of 1599 steps are at 80 % or more")
    assert short.hint == "set smoke.max_steps to 1600 or more"
    assert schedule(case(max_steps=1600)).status == "pass"


@given(warmup=st.integers(0, 3000), steps=st.integers(1, 5000))
def test_the_hint_for_a_constant_smoke_is_the_smallest_length_that_passes(warmup: int, steps: int) -> None:
    """One step less fails."""
    finding = schedule(case(full={"warmup_steps": warmup}, max_steps=steps))
    assume(finding.reason == "evidence")
    enough = int(finding.hint.split()[3])
    assert schedule(case(full={"warmup_steps": warmup}, max_steps=enough)).status == "pass"
    assert schedule(case(full={"warmup_steps": warmup}, max_steps=enough - 1)).status == "fail"


def test_a_cosine_smoke_is_masked_and_says_how_far_its_rate_had_fallen() -> None:
    """The smoke that lied: warm-up 1,000 of 3,000, 30.9 % of the peak at step 2,250."""
    finding = schedule(case(lr_schedule="cosine", max_steps=3000))
    assert (finding.status, finding.reason) == ("fail", "masked")
    assert "'cosine' is not what mode constant promises (constant)" in finding.text
    assert "at step 2250 its learning rate is 31 % of the peak and no step after 1590" in finding.text
    assert evidence_steps(case(lr_schedule="cosine", max_steps=3000)) == 0


@pytest.mark.parametrize(
    ("steps", "run_steps", "status", "reason"),
    [
        (10_000, None, "pass", ""),
        (10_000, 3_300, "pass", ""),
        (10_000, 2_000, "fail", "evidence"),
        (9_000, None, "warn", "short-horizon"),
        (4_000, None, "fail", "evidence"),
    ],
)
def test_long_tail_needs_2500_steps_of_evidence(steps: int, run_steps: int | None, status: str, reason: str) -> None:
    """Under 10,000 steps it warns, and then the evidence decides."""
    changes = {} if run_steps is None else {"run_steps": run_steps}
    finding = schedule(case(mode="long-tail", max_steps=steps, **changes))
    assert (finding.status, finding.reason) == (status, reason)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("learning_rate", 1e-4, "learning_rate is 0.0001 in the smoke and 0.0005 in the full run"),
        ("warmup_steps", 100, "warmup_steps is 100 in the smoke and 1000 in the full run"),
    ],
)
def test_a_schedule_that_is_not_the_full_runs_fails(key: str, value: Any, words: str) -> None:
    """Even where there is evidence enough."""
    finding = schedule(case(**{key: value}))
    assert finding.status == "fail"
    assert words in finding.text


def test_a_warm_up_that_does_not_fit_into_a_long_tail_is_said_and_nothing_breaks() -> None:
    """Other checks still speak."""
    found = preflight(case(mode="long-tail", max_steps=800))
    assert [f.id for f in found] == ["batch-geometry", "schedule", "settings"]
    assert found[1].text == "warm-up of 1000 steps does not fit into the 800 steps of the schedule"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"grad_clip_norm": 5.0}, "grad_clip_norm is 5.0 in the smoke and 1.0 in the full run"),
        ({"grad_clip_norm": None}, "grad_clip_norm is off in the smoke and 1.0 in the full run"),
        ({"precision": "bf16"}, "precision is 'bf16' in the smoke and 'fp32' in the full run"),
        ({"loss_weights": {"crf": 0.5}}, "loss_weights.crf is 0.5 in the smoke and not set in the full run"),
        ({"args": {"width": 8}}, "args.width is 8 in the smoke and 64 in the full run"),
        (
            {"args": {"width": 8}, "precision": "fp16"},
            "precision is 'fp16' in the smoke and 'fp32' in the full run; "
            "args.width is 8 in the smoke and 64 in the full run",
        ),
    ],
)
def test_any_other_setting_that_differs_is_named_with_both_values(changes: dict[str, Any], text: str) -> None:
    """All of them, in one sentence."""
    recipe = Recipe.model_validate(
        {"task": "a:B", "args": {"width": 64}, "full": FULL, "smoke": {"max_steps": 2500, **changes}}
    )
    finding = rehearsal(Case(path="a", recipe=recipe, mode="constant"))
    assert (finding.status, finding.text) == ("fail", text)


def test_repeating_the_full_runs_values_is_fine() -> None:
    """They are what would be inherited."""
    same = {key: value for key, value in FULL.items() if key != "max_steps"}
    assert {finding.status for finding in preflight(case(**same))} == {"pass"}


def test_a_smoke_as_long_as_the_full_run_warns() -> None:
    """It saves nothing; most likely one of the two lengths is a slip."""
    found = schedule(case(full={"max_steps": 2500}))
    assert (found.status, found.reason) == ("warn", "no-shorter")


def test_preflight_and_judge_count_the_same_steps() -> None:
    """Without a warm-up the very first step is evidence."""
    judge = CurveJudge(planned_points=2500, evidence_needed=2500, peak_lr=5e-4)
    tail = case(mode="long-tail", full={"warmup_steps": 0}, max_steps=10_000, run_steps=2500)
    assert evidence_steps(tail) == 2500
    for step in range(2500):
        judge.add(step, 1 + 3 / (1 + step), lr=5e-4 * schedules.long_tail(0, 10_000)(step))
    assert judge.finish().verdict == "promote"


def test_half_the_window_is_needed_in_constant_mode() -> None:
    """Rounded up."""
    assert evidence_needed(case(max_steps=2501)) == 1251
