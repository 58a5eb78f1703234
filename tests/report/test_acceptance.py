"""The acceptance table: every criterion once, with its numbers, and the full run's criteria."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.outcome import Facts, Finding, Outcome
from pytest_smoke.report.acceptance import HEADER, acceptance_table
from pytest_smoke.text import number


def outcome(findings: list[Finding], full_accept: Sequence[str] = ()) -> Outcome:
    """A promoted smoke run with these findings."""
    return Outcome(
        id="a.smoke.yaml::constant",
        recipe="a.smoke.yaml",
        mode="constant",
        cell=None,
        verdict="promote",
        reason="",
        step=None,
        text="",
        decided_by="",
        findings=tuple(findings),
        facts=Facts(full_accept=tuple(full_accept)),
    )


def finding(check_id: str, status: str = "pass", observed: float | None = None, bound: float | None = None) -> Finding:
    """The finding of one check."""
    return Finding(id=check_id, status=status, text="", observed=observed, bound=bound)  # type: ignore[arg-type]


def test_stage_criteria_come_before_those_of_the_smoke_run_and_the_full_run() -> None:
    own = finding("accept[first_acc > 0.1 by step 80]", "pass", 0.25, 0.1)
    stage = Finding(id="stage[A]", status="pass", text="", data={"criteria": [own.to_dict()]})
    findings = [
        finding("finite[A]"),
        finding("grad-ratio[A]", "warn"),
        stage,
        finding("accept[latent_nll < 1.1 * text_nll]", "fail", 13.68, 11.44),
        finding("accept[f1 > 0.01]", "not-checked"),
    ]
    assert acceptance_table(outcome(findings, ["f1 > 0.1"]), width=100) == [
        "status         criterion                            target  current",
        "warn           all other checks                             1 of 2 pass; grad-ratio[A] warn",
        "pass           stage A: first_acc > 0.1 by step 80  0.1     0.25",
        "FAIL           latent_nll < 1.1 * text_nll          11.44   13.68",
        "not checked    f1 > 0.01",
        "full run only  f1 > 0.1",
    ]


def test_a_long_criterion_wraps_between_words() -> None:
    findings = [finding("accept[max(grad_norm over steps 100 to 2000) < 500 by step 2000]", "pass", 98.69, 500)]
    assert acceptance_table(outcome(findings, ["f1 > 0.1"]), width=57) == [
        "status         criterion             target  current",
        "pass           all other checks              0 of 0 pass",
        "pass           max(grad_norm over    500     98.69",
        "                 steps 100 to 2000)",
        "                 < 500 by step 2000",
        "full run only  f1 > 0.1",
    ]


def test_names_precede_criteria_and_advisories_are_not_counted() -> None:
    named = {"name": "gradient health"}
    criterion = Finding(
        id="accept[max(grad_norm) < 500]", status="pass", text="", observed=98.69, bound=500, data=named
    )
    advisories = [finding("peak-regression[f1]", "warn"), finding("metrics", "warn")]
    findings = [finding("run"), criterion, *advisories, finding("mix")]
    assert acceptance_table(outcome(findings, ["quality: f1 > 0.1"]))[1:] == [
        "pass           all other checks                               2 of 2 pass",
        "pass           gradient health: max(grad_norm) < 500  500     98.69",
        "full run only  quality: f1 > 0.1",
    ]


def test_an_unchecked_check_is_not_a_failure_and_a_wiring_run_has_no_table() -> None:
    findings = [finding("run"), finding("updates[B]", "not-checked"), finding("accept[a > 0]")]
    row = acceptance_table(outcome(findings))[1]
    assert row.startswith("not checked  ")
    assert row.endswith("updates[B] not checked")
    assert acceptance_table(replace(outcome(findings), mode="wiring")) == []


def test_one_failed_check_fails_the_row_of_all_other_checks() -> None:
    findings = [finding("run"), finding("loss-trend", "fail"), finding("mix", "warn"), finding("accept[a > 0]")]
    assert acceptance_table(outcome(findings))[1].startswith("FAIL ")


def test_a_smoke_run_without_criteria_has_no_table() -> None:
    assert acceptance_table(outcome([finding("run")], ["f1 > 0.1"])) == []


def test_a_smoke_run_whose_criteria_were_never_checked_has_no_table() -> None:
    findings = [finding("loss-trend", "fail"), finding("accept[a > 0]", "not-checked")]
    assert acceptance_table(outcome(findings, ["f1 > 0.1"])) == []


STATUS = st.sampled_from(["pass", "fail", "not-checked"])
NUMBER = st.none() | st.floats()


@given(st.lists(st.tuples(STATUS, NUMBER, NUMBER), min_size=1, max_size=6), st.lists(st.just("f1 > 1"), max_size=3))
def test_every_criterion_has_a_row(judged: list[tuple[str, float | None, float | None]], full: list[str]) -> None:
    """In order, its status first, its numbers to four digits, whatever they are."""
    judged = [("pass", 1.0, 0.0), *judged]
    findings = [finding(f"accept[m{at} > 0]", *values) for at, values in enumerate(judged)]
    header, first, *rows = acceptance_table(outcome(findings, full))
    assert tuple(header.split()) == HEADER
    assert first.split()[1:4] == ["all", "other", "checks"]
    assert len(rows) == len(judged) + len(full)
    for at, ((status, observed, bound), row) in enumerate(zip(judged, rows, strict=False)):
        assert row.startswith({"pass": "pass ", "fail": "FAIL ", "not-checked": "not checked "}[status])
        assert f" m{at} > 0" in row
        for value in (observed, bound):
            if value is not None:
                assert number(value) in row.split()
