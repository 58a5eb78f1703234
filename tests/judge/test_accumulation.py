"""The `accumulation` finding and the verdict it causes."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, nan

import pytest

from pytest_smoke.judge.accumulation import accumulation
from pytest_smoke.judge.finding import Finding
from pytest_smoke.judge.verdict import decide

STABLE = Finding(id="loss-trend", status="pass", text="no rise")


@dataclass
class Cut:
    """A batch of 64 in micro-batches of 16 and of 64."""

    difference: float = 1e-7
    step: int = 0
    samples: int = 64
    smoke: int = 16
    full: int = 64
    batch_norm: int = 0
    smoke_terms: dict[str, float] = field(default_factory=lambda: {"ce": 1.0, "kl": 0.5})
    full_terms: dict[str, float] = field(default_factory=lambda: {"ce": 1.0, "kl": 0.6})
    problem: str = ""


def test_the_same_gradient_passes() -> None:
    found = accumulation([Cut(smoke_terms={"ce": 1.0}, full_terms={"ce": 1.0})])
    assert found.status == "pass"
    assert found.text == (
        "64 samples in micro-batches of 16 (the smoke's) have the gradient of micro-batches of 64 (the full run's): "
        "1e-05 % of its norm apart"
    )
    assert decide([found, STABLE]).word == "promote"


def test_another_gradient_is_no_fair_rehearsal_and_the_term_that_moved_is_named() -> None:
    found = accumulation([Cut(difference=0.234)])
    assert (found.status, found.reason) == ("fail", "geometry")
    assert "have another gradient than in micro-batches of 64 (the full run's): 23 % of its norm apart; kl is 0.5" in (
        found.text
    )
    assert "ce is" not in found.text
    assert "counts(batch)" in found.hint
    assert "batch_size (64)" in found.hint
    assert decide([found, STABLE]).word == "invalid"


@pytest.mark.parametrize("difference", [nan, inf])
def test_a_gradient_that_is_zero_or_not_finite_says_nothing(difference: float) -> None:
    found = accumulation([Cut(difference=difference)])
    assert (found.status, found.reason) == ("warn", "not-compared")
    assert "before step 0 it is zero or not finite" in found.text
    assert decide([found, STABLE]).word == "promote"


def test_what_could_not_be_compared_warns_with_its_cause() -> None:
    found = accumulation([Cut(difference=nan, problem="the batch is int")])
    assert (found.status, found.reason) == ("warn", "not-compared")
    assert found.text.endswith("could not be seen: the batch is int")


def test_batch_norm_warns_where_the_gradients_agree() -> None:
    found = accumulation([Cut(batch_norm=2)])
    assert (found.status, found.reason) == ("warn", "batch-norm")
    assert "2 layers of batch norm train on the statistics of 16, not 64" in found.text
    assert accumulation([Cut(batch_norm=2, difference=0.2)]).reason == "geometry"


def test_the_worst_of_several_stages_is_the_finding() -> None:
    cuts = [Cut(), Cut(step=100, problem="the batch is int"), Cut(step=200, difference=0.5), Cut(step=300)]
    assert (accumulation(cuts).status, accumulation(cuts).step) == ("fail", 200)
    assert accumulation(cuts[:2]).step == 100
