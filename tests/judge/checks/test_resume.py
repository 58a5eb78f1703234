"""The `resume` check's comparison, and the cause it names."""

from __future__ import annotations

from math import nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.events import Step
from pytest_smoke.judge.checks.resume import TOLERANCE, resume

LOSSES = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=40)


def rows(losses: list[float], *, at: int = 0) -> list[Step]:
    return [Step(at + n, loss, {"ce": loss}, 1.0, 0.1) for n, loss in enumerate(losses)]


@given(losses=LOSSES, data=st.data())
def test_the_same_bits_pass_and_the_first_other_one_fails(losses: list[float], data: st.DataObject) -> None:
    """NaN is NaN; whatever else is changed is found at its own step."""
    whole = rows(losses)
    at = data.draw(st.integers(0, len(losses) - 1))
    assert resume(whole, whole[at:], planned=len(losses) - at).status == "pass"
    spoilt = data.draw(st.integers(at, len(losses) - 1))
    other = data.draw(st.floats(allow_nan=False, width=32).filter(lambda value: value != losses[spoilt]))
    second = rows([*losses[at:spoilt], other, *losses[spoilt + 1 :]], at=at)
    found = resume(whole, second, planned=len(losses) - at)
    assert (found.status, found.step) == ("fail", spoilt)
    assert f"resumed at step {at} " in found.text


@given(loss=st.floats(1e-3, 1e3), share=st.floats(0, 2), precision=st.sampled_from(sorted(TOLERANCE)))
def test_the_tolerance_is_relative(loss: float, share: float, precision: str) -> None:
    """Within it passes, beyond it fails."""
    tolerance = TOLERANCE[precision]
    found = resume(rows([loss]), rows([loss * (1 + share * tolerance)]), planned=1, tolerance=tolerance)
    if abs(share - 1) > 0.05:
        assert (found.status == "pass") == (share < 1)
    assert f"{tolerance:g}" in found.text or found.status == "fail"


@pytest.mark.parametrize(
    ("drawn", "changed", "reason", "words"),
    [
        (({5: "a"}, {5: "b"}), (), "data", "the batch of step 5 is another one"),
        (({5: "a"}, {5: "b"}), ("buffer x", "buffer y", "buffer z", "buffer w"), "state", "buffer z and 1 more"),
        (({5: "a"}, {5: "a"}), (), "unknown", "weights, optimizer and batches are the same"),
        (({7: "a"}, {7: "b"}), (), "unknown", "weights, optimizer and batches are the same"),
    ],
)
def test_the_likeliest_cause_is_named(drawn: Any, changed: tuple[str, ...], reason: str, words: str) -> None:
    """A state that came back changed comes before a batch that is another; a later batch explains nothing."""
    found = resume(rows([1.0], at=5), rows([2.0], at=5), planned=1, drawn=drawn, changed=changed)
    assert (found.status, found.reason) == ("fail", reason)
    assert words in found.hint
    assert "1 uninterrupted, 2 resumed" in found.text


def test_a_term_that_differs_is_named_even_where_the_loss_is_the_same() -> None:
    """And a run that made too few steps is no pass."""
    one, other = Step(3, 1.0, {"ce": 0.4, "kl": 0.6}, 1.0, 0.1), Step(3, 1.0, {"ce": 0.4, "kl": nan}, 1.0, 0.1)
    assert "kl 0.6 uninterrupted, nan resumed" in resume([one], [other], planned=1).text
    assert resume([one], [one], planned=2).status == "fail"
    assert resume([one], [], planned=1).status == "fail"
