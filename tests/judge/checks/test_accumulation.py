"""The `accumulation` finding and the verdict it causes."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, nan
from typing import Any

import pytest

from pytest_smoke.judge.checks.accumulation import accumulation
from pytest_smoke.judge.verdict import decide
from pytest_smoke.outcome import Finding

STABLE = Finding(id="loss-trend", status="pass", text="no rise")


@dataclass
class Cut:
    """A batch of 64 in micro-batches of 16 and of 64."""

    difference: float = 1e-7
    step: int = 0
    stage: str | None = None
    phase: str | None = None
    samples: int = 64
    smoke: int = 16
    full: int = 64
    batch_norm: int = 0
    half: bool = False
    weights: dict[str, float] = field(default_factory=lambda: {"ce": 1.0, "kl": 0.1})
    smoke_terms: dict[str, float] = field(default_factory=lambda: {"ce": 1.0, "kl": 0.5})
    full_terms: dict[str, float] = field(default_factory=lambda: {"ce": 1.0, "kl": 0.5})
    ignored: bool = False
    problem: str = ""


def one(cut: Cut) -> Finding:
    """The finding of one look."""
    (found,) = accumulation([cut])
    return found


def test_the_same_gradient_passes() -> None:
    """Within what rounding makes of it."""
    found = one(Cut())
    assert (found.id, found.status, found.hint) == ("accumulation", "pass", "")
    assert found.text == (
        "64 samples in micro-batches of 16 (the smoke's) have the gradient of micro-batches of 64 (the full run's): "
        "1e-05 % of its norm apart"
    )
    assert decide([found, STABLE]).word == "promote"


def test_another_gradient_is_no_fair_rehearsal_and_the_term_that_moved_is_named() -> None:
    """And the hint says what makes a loss depend on the cut."""
    found = one(Cut(difference=0.234, full_terms={"ce": 1.0, "kl": 0.6}))
    assert (found.status, found.reason) == ("fail", "geometry")
    assert found.text.endswith(
        "have another gradient than in micro-batches of 64 (the full run's): 23 % of its norm apart; kl is 0.5, not 0.6"
    )
    assert "counts(batch)" in found.hint
    assert "batch_size (64)" in found.hint
    assert decide([found, STABLE]).word == "invalid"
    assert "100 % of its norm" in one(Cut(difference=1.0)).text


def test_another_loss_fails_though_its_gradient_is_small_yet() -> None:
    """A term may grow into the loudest; a pass that says it is a third of the full run's would be none."""
    found = one(Cut(difference=0.002, full_terms={"ce": 1.0, "kl": 1.5}))
    assert (found.status, found.reason) == ("fail", "geometry")
    assert (
        "have another loss than in micro-batches of 64 (the full run's); kl is 0.5, not 1.5; the gradient is 0.2 %"
        in (found.text)
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"full_terms": {"ce": 1.0, "kl": 0.51}},  # 2 %
        {"weights": {"ce": 1.0, "kl": 0.0}, "full_terms": {"ce": 1.0, "kl": 1.5}},
        {"weights": {"ce": 1.0, "kl": 1e-5}, "full_terms": {"ce": 1.0, "kl": 1.5}},
        {"smoke_terms": {"ce": 1.0, "kl": 1e-9}, "full_terms": {"ce": 1.0, "kl": 3e-8}},
    ],
)
def test_a_term_that_moves_by_little_or_pulls_at_little_does_not_fail(changes: dict[str, dict[str, float]]) -> None:
    """Rounding about zero least of all."""
    assert one(Cut(**changes)).status == "pass"  # type: ignore[arg-type]  # all of them are dicts of numbers


@pytest.mark.parametrize(
    ("difference", "half", "reason"),
    [(2e-4, False, "nearly"), (0.009, False, "nearly"), (0.009, True, ""), (0.04, True, ""), (0.06, True, "geometry")],
)
def test_a_small_difference_that_is_no_rounding_warns(difference: float, half: bool, reason: str) -> None:
    """A forgotten counts(batch) may cost this batch little; gradients in 16 bits are apart by as much anyhow."""
    found = one(Cut(difference=difference, half=half))
    assert found.reason == reason
    assert (found.status == "warn") == (reason == "nearly")
    assert (found.hint == "") == (reason == "")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"difference": nan}, "both gradients are zero, or not finite"),
        ({"difference": inf}, "a gradient is not finite"),
        ({"smoke_terms": {"ce": nan, "kl": 1.0}}, "ce is nan"),
        ({"difference": nan, "problem": "batch is int"}, "batch is int"),
    ],
)
def test_what_could_not_be_compared_warns_with_its_cause(changes: dict[str, Any], said: str) -> None:
    """And decides nothing."""
    found = one(Cut(**changes))
    assert (found.status, found.reason) == ("warn", "not-compared")
    assert found.text.endswith(f"could not be seen: {said}")
    assert decide([found, STABLE]).word == "promote"


def test_a_task_that_ignores_the_batch_size_is_no_fair_rehearsal() -> None:
    """Its effective batch is another than the recipe's arithmetic."""
    found = one(Cut(ignored=True, difference=nan))
    assert (found.status, found.reason) == ("fail", "batch-size")
    assert found.text.startswith("batches(16) gives as many samples as batches(64)")
    assert decide([found, STABLE]).word == "invalid"


def test_batch_norm_warns_where_the_gradients_agree() -> None:
    """And is named among the causes where they do not."""
    found = one(Cut(batch_norm=2))
    assert (found.status, found.reason) == ("warn", "batch-norm")
    assert found.text.endswith("but the statistics of 2 layers of batch norm are those of 16 samples, not 64")
    apart = one(Cut(batch_norm=1, difference=0.2))
    assert apart.reason == "geometry"
    assert "batch norm" in apart.hint


def test_each_stage_has_a_finding_and_of_its_phases_the_worst_counts() -> None:
    """Its sentence says where it is of."""
    cuts = [
        Cut(stage="A", phase="text"),
        Cut(stage="A", phase="latent", step=100, problem="batch is int"),
        Cut(stage="B", step=200, difference=0.5),
    ]
    a_stage, b_stage = accumulation(cuts)
    assert (a_stage.id, a_stage.status, a_stage.step) == ("accumulation[A]", "warn", 100)
    assert a_stage.text.startswith("stage A, phase latent: whether ")
    assert (b_stage.id, b_stage.status) == ("accumulation[B]", "fail")
    assert b_stage.text.startswith("stage B: 64 samples ")
    assert decide([a_stage, b_stage, STABLE]).word == "invalid"
