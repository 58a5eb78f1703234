"""One word from many findings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.events import Updates
from pytest_smoke.judge.checks.updates import updates
from pytest_smoke.judge.verdict import HELD, PREFLIGHT, STABILITY, decide
from pytest_smoke.outcome import Finding, Status

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


@given(
    a=st.fixed_dictionaries({check: st.sampled_from(STATUSES) for check in (*STABILITY, "updates", "grad-ratio")}),
    others=st.fixed_dictionaries({check: st.sampled_from(STATUSES) for check in ("schedule", "run")}),
)
def test_a_stage_that_held_the_rest_back_is_the_reason(a: dict[str, Status], others: dict[str, Status]) -> None:
    """What it kept from being checked is no gap; what its own stage left unchecked still is."""
    findings = [finding(check, status) for check, status in others.items()]
    findings += [finding(f"{check}[A]", status) for check, status in a.items()] + [finding("stage[A]", "fail")]
    findings += [finding(f"{check}[B]", "not-checked", HELD) for check in ("loss-trend", "updates", "stage")]
    verdict = decide(findings)
    if others["schedule"] == "fail":
        expected = "invalid"
    elif "fail" in (a["finite"], a["loss-trend"]):
        expected = "unstable"
    elif others["run"] == "fail":
        expected = "error"
    elif "not-checked" in (*a.values(), *others.values()):
        expected = "inconclusive"
    else:
        expected = "hold"
    assert verdict.word == expected
    if expected == "hold":
        assert (verdict.reason, verdict.text) == ("stage[A]", "stage[A] fail")


def test_what_is_held_back_by_nothing_is_a_gap() -> None:
    """The word alone excuses no check: the stage's failure must be there."""
    assert decide([finding("loss-trend[A]", "pass"), finding("loss-trend[B]", "not-checked", HELD)]).word == (
        "inconclusive"
    )


def test_stages_are_promoted_together() -> None:
    """All their sentences, and the reason of the one that has one."""
    verdict = decide([finding("loss-trend[A]", "pass"), finding("loss-trend[B]", "warn", "no-progress")])
    assert (verdict.word, verdict.reason) == ("promote", "no-progress")
    assert verdict.text == "loss-trend[A] pass; loss-trend[B] warn"


def test_frozen_parameters_that_moved_are_named() -> None:
    """Stuck ones come first: they are the likelier mistake."""
    moved = updates(Updates(stuck=(), without_gradient=(), outside_optimizer=(), checked=2, moved=("head.bias",)))
    assert (moved.status, moved.reason, moved.text) == ("fail", "moved", "1 frozen parameters changed: head.bias")


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
