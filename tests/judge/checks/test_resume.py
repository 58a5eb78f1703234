"""The `resume` check, and the cause that it names."""

from __future__ import annotations

from math import nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.events import Step
from pytest_smoke.judge.checks.resume import TOLERANCE, resume, resumed

LOSSES = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=40)


def rows(losses: list[float], *, at: int = 0) -> list[Step]:
    return [Step(at + n, loss, {"ce": loss}, 1.0, 0.1) for n, loss in enumerate(losses)]


@given(losses=LOSSES, data=st.data())
def test_identical_bits_pass_and_the_first_difference_fails_at_its_step(
    losses: list[float], data: st.DataObject
) -> None:
    """NaN equals NaN."""
    whole = rows(losses)
    at = data.draw(st.integers(0, len(losses) - 1))
    assert resume(whole, whole[at:], planned=len(losses) - at).status == "pass"
    changed = data.draw(st.integers(at, len(losses) - 1))
    value = data.draw(st.floats(allow_nan=False, width=32).filter(lambda value: value != losses[changed]))
    second = rows([*losses[at:changed], value, *losses[changed + 1 :]], at=at)
    finding = resume(whole, second, planned=len(losses) - at)
    assert (finding.status, finding.step) == ("fail", changed)
    assert f"resumed at step {at} " in finding.text


@given(loss=st.floats(1e-3, 1e3), share=st.floats(0, 2), precision=st.sampled_from(sorted(TOLERANCE)))
def test_the_tolerance_is_relative(loss: float, share: float, precision: str) -> None:
    tolerance = TOLERANCE[precision]
    finding = resume(rows([loss]), rows([loss * (1 + share * tolerance)]), planned=1, tolerance=tolerance)
    if abs(share - 1) > 0.05:
        assert (finding.status == "pass") == (share < 1)
    assert f"{tolerance:g}" in finding.text or finding.status == "fail"


@pytest.mark.parametrize(
    ("batch_digests", "changed", "reason", "words"),
    [
        (({5: "a"}, {5: "b"}), (), "different-data", "The batch of step 5 differs"),
        (
            ({5: "a"}, {5: "b"}),
            ("buffer x", "buffer y", "buffer z", "buffer w"),
            "state-not-restored",
            "After loading, buffer x, buffer y, buffer z and 1 more differ",
        ),
        (({5: "a"}, {5: "a"}), (), "unknown-cause", "Weights, optimizer and batches are the same"),
        (({7: "a"}, {7: "b"}), (), "unknown-cause", "Weights, optimizer and batches are the same"),
    ],
)
def test_the_most_likely_cause_is_named(batch_digests: Any, changed: tuple[str, ...], reason: str, words: str) -> None:
    """State that was not restored comes before a batch that differs; a later batch explains nothing."""
    finding = resume(rows([1.0], at=5), rows([2.0], at=5), planned=1, batch_digests=batch_digests, changed=changed)
    assert (finding.status, finding.reason) == ("fail", reason)
    assert finding.text == (
        "resumed at step 5 in a fresh process, the run differs from the uninterrupted one from step 5 on: loss is 2 "
        f"instead of 1. {words}"
    )


def test_a_term_that_differs_is_named_even_if_the_loss_is_the_same() -> None:
    one, other = Step(3, 1.0, {"ce": 0.4, "kl": 0.6}, 1.0, 0.1), Step(3, 1.0, {"ce": 0.4, "kl": nan}, 1.0, 0.1)
    assert resume([one], [other], planned=1).text.partition(". ")[0].endswith(": kl is NaN instead of 0.6")


@pytest.mark.parametrize("made", [0, 1])
def test_a_resumed_run_with_too_few_steps_fails(made: int) -> None:
    finding = resume(rows([1.0, 1.0]), rows([1.0] * made), planned=2)
    assert (finding.status, finding.reason) == ("fail", "resumed-run-ended-early")
    assert finding.text == f"the resumed run made {made} of 2 steps"


def test_an_interrupted_run_lists_where_it_was_resumed_or_warns_that_it_restarted() -> None:
    assert resumed([], "") == []
    (finding,) = resumed([120, 300], "")
    assert (finding.id, finding.status, finding.step) == ("resumed", "pass", 300)
    assert finding.text == "interrupted, and resumed at steps 120 and 300"
    (finding,) = resumed([120], "the checkpoint was saved by torch 2.9")
    assert (finding.status, finding.reason) == ("warn", "restarted")
    assert finding.text == "restarted from step 0: the checkpoint was saved by torch 2.9"
