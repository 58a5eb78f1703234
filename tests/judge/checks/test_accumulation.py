"""The `accumulation` check and the verdict that it leads to."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from pytest_smoke.events import BatchEquivalence
from pytest_smoke.judge.checks.accumulation import accumulation
from pytest_smoke.judge.verdict import decide
from pytest_smoke.outcome import Finding

STABLE = Finding(id="loss-trend", status="pass", text="no rise")
EQUAL = BatchEquivalence(
    step=0,
    samples=64,
    smoke_batch_size=16,
    full_batch_size=64,
    batch_norm_layers=0,
    difference=1e-7,
    weights={"ce": 1.0, "kl": 0.1},
    smoke_terms={"ce": 1.0, "kl": 0.5},
    full_terms={"ce": 1.0, "kl": 0.5},
)
"""A batch of 64 in micro-batches of 16 and of 64."""


def finding_of(**changes: Any) -> Finding:
    (finding,) = accumulation([replace(EQUAL, **changes)])
    return finding


def test_equal_gradients_pass_with_their_difference() -> None:
    finding = finding_of()
    assert (finding.id, finding.status, finding.hint) == ("accumulation", "pass", "")
    assert finding.text == (
        "splitting the batch keeps the gradient: with micro-batches of 16 (smoke run) and 64 (full run) it differs by "
        "1e-05 % of its norm"
    )
    assert decide([finding, STABLE]).word == "promote"


def test_a_gradient_that_depends_on_the_split_is_invalid_and_names_the_term_that_changed() -> None:
    finding = finding_of(difference=0.234, full_terms={"ce": 1.0, "kl": 0.6})
    assert (finding.status, finding.reason) == ("fail", "gradient-depends-on-split")
    assert finding.text == (
        "splitting the batch changes the gradient: with micro-batches of 16 (smoke run) and 64 (full run) it differs "
        "by 23 % of its norm; kl is 0.5 instead of 0.6"
    )
    assert "counts(batch)" in finding.hint
    assert "batch_size (64)" in finding.hint
    assert decide([finding, STABLE]).word == "invalid"
    assert "100 % of its norm" in finding_of(difference=1.0).text


def test_a_loss_that_depends_on_the_split_fails_even_if_its_gradient_is_still_small() -> None:
    """The term may grow, and it is a third of the full run's."""
    finding = finding_of(difference=0.002, full_terms={"ce": 1.0, "kl": 1.5})
    assert (finding.status, finding.reason) == ("fail", "gradient-depends-on-split")
    assert finding.text == (
        "splitting the batch changes the loss: with micro-batches of 16 (smoke run) and 64 (full run), kl is 0.5 "
        "instead of 1.5. The gradient differs by 0.2 % of its norm"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"full_terms": {"ce": 1.0, "kl": 0.51}},  # 2 %
        {"weights": {"ce": 1.0, "kl": 0.0}, "full_terms": {"ce": 1.0, "kl": 1.5}},
        {"weights": {"ce": 1.0, "kl": 1e-5}, "full_terms": {"ce": 1.0, "kl": 1.5}},
        {"smoke_terms": {"ce": 1.0, "kl": 1e-9}, "full_terms": {"ce": 1.0, "kl": 3e-8}},  # rounding around 0
    ],
)
def test_a_term_that_changes_little_or_has_little_weight_passes(changes: dict[str, dict[str, float]]) -> None:
    assert finding_of(**changes).status == "pass"


@pytest.mark.parametrize(
    ("difference", "half", "reason"),
    [
        (2e-4, False, "close-to-limit"),
        (0.009, False, "close-to-limit"),
        (0.009, True, ""),
        (0.04, True, ""),
        (0.06, True, "gradient-depends-on-split"),
    ],
)
def test_a_small_difference_that_rounding_does_not_explain_warns(difference: float, half: bool, reason: str) -> None:
    """A missing counts(batch) may change this batch only a little; gradients in 16 bits differ by as much anyway."""
    finding = finding_of(difference=difference, half_precision=half)
    assert finding.reason == reason
    assert (finding.status == "warn") == (reason == "close-to-limit")
    assert (finding.hint == "") == (reason == "")


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"difference": nan}, "both gradients are zero, or not finite"),
        ({"difference": inf}, "a gradient is not finite"),
        ({"smoke_terms": {"ce": nan, "kl": 1.0}}, "ce is NaN"),
        ({"difference": nan, "problem": "batch is int"}, "batch is int"),
    ],
)
def test_a_comparison_that_failed_warns_with_its_cause_and_decides_nothing(changes: dict[str, Any], cause: str) -> None:
    finding = finding_of(**changes)
    assert (finding.status, finding.reason) == ("warn", "not-compared")
    assert finding.text.endswith(f"could not be compared: {cause}")
    assert decide([finding, STABLE]).word == "promote"


def test_a_task_that_ignores_the_batch_size_is_invalid() -> None:
    """Its effective batch is not the recipe's product."""
    finding = finding_of(batch_size_ignored=True, difference=nan)
    assert (finding.status, finding.reason) == ("fail", "batch-size-ignored")
    assert finding.text.startswith("batches(16) yields as many samples as batches(64)")
    assert decide([finding, STABLE]).word == "invalid"


def test_batch_norm_warns_if_the_gradients_agree_and_is_named_as_a_cause_if_not() -> None:
    finding = finding_of(batch_norm_layers=2)
    assert (finding.status, finding.reason) == ("warn", "batch-norm")
    assert finding.text.endswith("But 2 batch-norm layers compute statistics over 16 samples, not over 64")
    assert finding_of(batch_norm_layers=1).text.endswith(
        "1 batch-norm layer computes statistics over 16 samples, not over 64"
    )
    different = finding_of(batch_norm_layers=1, difference=0.2)
    assert different.reason == "gradient-depends-on-split"
    assert "batch norm" in different.hint


def test_each_stage_has_one_finding_that_of_its_worst_phase() -> None:
    events = [
        replace(EQUAL, stage="A", phase="text"),
        replace(EQUAL, stage="A", phase="latent", step=100, problem="batch is int"),
        replace(EQUAL, stage="B", step=200, difference=0.5),
    ]
    a_stage, b_stage = accumulation(events)
    assert (a_stage.id, a_stage.status, a_stage.step) == ("accumulation[A]", "warn", 100)
    assert a_stage.text.startswith("stage A, phase latent: micro-batches of 16 ")
    assert (b_stage.id, b_stage.status) == ("accumulation[B]", "fail")
    assert b_stage.text.startswith("stage B: splitting the batch changes the gradient")
    assert decide([a_stage, b_stage, STABLE]).word == "invalid"
