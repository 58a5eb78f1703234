"""One word from many findings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.judge.finding import Finding, Status
from pytest_smoke.judge.updates import updates
from pytest_smoke.judge.verdict import PREFLIGHT, STABILITY, decide
from pytest_smoke.run.records import Updates

IDS = (*PREFLIGHT, *STABILITY, "run", "updates", "grad-ratio", "accept[a < 1]")
STATUSES: tuple[Status, ...] = ("pass", "warn", "fail", "not-checked")


def finding(id: str, status: Status, reason: str = "") -> Finding:
    return Finding(id=id, status=status, reason=reason, text=f"{id} {status}")


@given(st.fixed_dictionaries({id: st.sampled_from(STATUSES) for id in IDS}))
def test_the_first_rule_that_holds_decides(statuses: dict[str, Status]) -> None:
    """Against the table written as a chain of ifs; and only a smoke without a failure or a gap is promoted."""
    verdict = decide([finding(id, status) for id, status in statuses.items()])
    failed = {id for id, status in statuses.items() if status == "fail"}
    if failed & set(PREFLIGHT):
        expected = "invalid"
    elif failed & set(STABILITY):
        expected = "unstable"
    elif "run" in failed:
        expected = "error"
    elif "not-checked" in statuses.values():
        expected = "inconclusive"
    elif failed:
        expected = "hold"
    else:
        expected = "promote"
    assert verdict.word == expected
    assert (verdict.word == "promote") == (set(statuses.values()) <= {"pass", "warn"})


def test_a_masked_curve_is_invalid_wherever_it_is_found() -> None:
    """Before the run from the recipe, after it from the learning rates that were seen."""
    assert decide([finding("loss-trend", "fail", "masked")]).word == "invalid"


def test_no_finding_about_the_loss_is_no_promotion() -> None:
    """A check that was forgotten is a check that was skipped."""
    assert decide([finding("batch-geometry", "pass")]).word == "inconclusive"


def test_a_promotion_with_a_warning_says_why() -> None:
    """The reason and the sentence are the trend's."""
    verdict = decide([finding("grad-ratio", "warn", "ratio"), finding("loss-trend", "warn", "no-progress")])
    assert (verdict.word, verdict.reason, verdict.text) == ("promote", "no-progress", "loss-trend warn")


def test_stuck_parameters_are_named_and_explained() -> None:
    """Five by name, the rest by number, with what explains them."""
    names = tuple(f"layer{i}.weight" for i in range(7))
    found = updates(Updates(stuck=names, without_gradient=names[:2], outside_optimizer=names[:3], checked=20))
    assert found.status == "fail"
    assert found.text == (
        "7 of 20 trainable parameters did not change: layer0.weight, layer1.weight, layer2.weight, layer3.weight, "
        "layer4.weight and 2 more (3 not in the optimizer, 2 without a gradient)"
    )
