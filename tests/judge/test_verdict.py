"""From findings to the verdict."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.judge.checks.check import EARLIER_STAGE_FAILED
from pytest_smoke.judge.verdict import decide
from pytest_smoke.outcome import Finding, Status

INVALID = (
    "batch-geometry",
    "schedule",
    "settings",
    "mix",
    "mix-drawn",
    "accumulation",
    "batch-drawn",
    "lr-applied",
    "baseline",
)
"""Checks whose failure means that the smoke run was no fair copy of the full run."""
UNSTABLE = ("finite", "loss-trend")
HOLD = ("updates", "grad-ratio", "accept[a < 1]")
ADVISORY = ("peak-regression[m]", "above-chance[m]", "time-to-target[m]", "exposure-bias[m]", "metrics", "full-accept")
STATUSES: tuple[Status, ...] = ("pass", "warn", "fail", "not-checked")


def finding(finding_id: str, status: Status, reason: str = "") -> Finding:
    return Finding(id=finding_id, status=status, reason=reason, text=f"{finding_id} {status}")


@given(st.fixed_dictionaries({check: st.sampled_from(STATUSES) for check in (*INVALID, *UNSTABLE, "run", *HOLD)}))
def test_the_first_rule_that_applies_decides(statuses: dict[str, Status]) -> None:
    """Compared with the rules as a chain of ifs. Only a run without a failure or a gap is promoted."""
    verdict = decide([finding(check, status) for check, status in statuses.items()])
    failed = {check for check, status in statuses.items() if status == "fail"}
    if failed & set(INVALID):
        expected = "invalid"
    elif failed & set(UNSTABLE):
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


@given(st.fixed_dictionaries({check: st.sampled_from(STATUSES) for check in (*INVALID, *UNSTABLE, "run", *HOLD)}))
def test_the_verdict_names_the_finding_that_decided(statuses: dict[str, Status]) -> None:
    """Its step, sentence and reason are those of that finding, so nobody needs to search for them."""
    findings = [finding(check, status) for check, status in statuses.items()]
    verdict = decide(findings)
    (deciding,) = [one for one in findings if one.id == verdict.decided_by]
    assert (verdict.step, verdict.text) == (deciding.step, deciding.text)
    assert verdict.reason == ("" if verdict.word == "promote" else deciding.id)
    assert (deciding.status in ("fail", "not-checked")) == (verdict.word != "promote")


@given(st.fixed_dictionaries({check: st.sampled_from(("pass", "warn")) for check in ADVISORY}))
def test_advisories_never_change_a_verdict(statuses: dict[str, Status]) -> None:
    advisories = [finding(check, status) for check, status in statuses.items()]
    assert decide([finding("loss-trend", "pass"), *advisories]).word == "promote"


def test_a_masked_curve_is_invalid_from_the_recipe_and_from_the_learning_rates_of_the_run() -> None:
    assert decide([finding("schedule", "fail", "masked")]).word == "invalid"
    assert decide([finding("loss-trend", "fail", "masked")]).word == "invalid"


def test_a_run_whose_loss_was_not_judged_is_inconclusive() -> None:
    verdict = decide([finding("batch-geometry", "pass")])
    assert (verdict.word, verdict.reason, verdict.text) == (
        "inconclusive",
        "loss-not-judged",
        "the loss was not judged",
    )
    assert verdict.decided_by == ""


@given(
    a=st.fixed_dictionaries({check: st.sampled_from(STATUSES) for check in (*UNSTABLE, "updates", "grad-ratio")}),
    others=st.fixed_dictionaries({check: st.sampled_from(STATUSES) for check in ("schedule", "run")}),
)
def test_a_stage_that_failed_its_criteria_decides_before_other_holds(
    a: dict[str, Status], others: dict[str, Status]
) -> None:
    """Checks that were not made because of it are no gap; a check of its own that was not made still is one."""
    findings = [finding(check, status) for check, status in others.items()]
    findings += [finding(f"{check}[A]", status) for check, status in a.items()] + [finding("stage[A]", "fail")]
    findings += [
        finding(f"{check}[B]", "not-checked", EARLIER_STAGE_FAILED) for check in ("loss-trend", "updates", "stage")
    ]
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
        assert (verdict.reason, verdict.text, verdict.decided_by) == ("stage[A]", "stage[A] fail", "stage[A]")


def test_earlier_stage_failed_without_a_failed_stage_is_a_gap() -> None:
    """The reason alone excuses no check."""
    findings = [finding("loss-trend[A]", "pass"), finding("loss-trend[B]", "not-checked", EARLIER_STAGE_FAILED)]
    assert decide(findings).word == "inconclusive"


def test_a_loss_that_was_not_judged_is_named_before_other_gaps() -> None:
    verdict = decide([finding("updates", "not-checked"), finding("loss-trend", "not-checked", "too-short")])
    assert (verdict.word, verdict.decided_by) == ("inconclusive", "loss-trend")


def test_a_promotion_of_several_stages_has_all_their_sentences_and_the_reason_of_the_one_that_has_one() -> None:
    verdict = decide([finding("loss-trend[A]", "pass"), finding("loss-trend[B]", "warn", "no-progress")])
    assert (verdict.word, verdict.reason, verdict.decided_by) == ("promote", "no-progress", "loss-trend[B]")
    assert verdict.text == "loss-trend[A] pass; loss-trend[B] warn"


def test_the_reason_of_a_promotion_is_that_of_the_loss_trend_and_of_no_other_warning() -> None:
    verdict = decide([finding("grad-ratio", "warn", "dominant-term"), finding("loss-trend", "warn", "no-progress")])
    assert (verdict.word, verdict.reason, verdict.text) == ("promote", "no-progress", "loss-trend warn")
