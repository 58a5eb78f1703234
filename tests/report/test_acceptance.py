"""The acceptance table: every criterion once, its numbers, and the full run's, which nobody judges."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.outcome import Finding, Outcome
from pytest_smoke.report.acceptance import HEADER, acceptance


def outcome(findings: list[Finding], full_accept: list[str] | None = None) -> Outcome:
    """Of a smoke with these findings."""
    return Outcome(
        id="a.smoke.yaml::constant",
        recipe="a.smoke.yaml",
        mode="constant",
        cell=None,
        verdict="promote",
        reason="",
        step=None,
        text="",
        findings=tuple(findings),
        facts={"full_accept": full_accept} if full_accept else {},
    )


def finding(id: str, status: str = "pass", observed: float | None = None, bound: float | None = None) -> Finding:
    """One check's."""
    return Finding(id=id, status=status, text="", observed=observed, bound=bound)  # type: ignore[arg-type]


def test_the_table_of_a_smoke_in_stages() -> None:
    """Infrastructure, stages, the smoke's own criteria, the full run's."""
    own = finding("accept[first_acc > 0.1 by step 80]", "pass", 0.25, 0.1)
    stage = Finding(id="stage[A]", status="pass", text="", data={"criteria": [own.to_dict()]})
    findings = [
        finding("finite[A]"),
        finding("grad-ratio[A]", "warn"),
        stage,
        finding("accept[latent_nll < 1.1 * text_nll]", "fail", 13.68, 11.44),
        finding("accept[f1 > 0.01]", "not-checked"),
    ]
    assert acceptance(outcome(findings, ["f1 > 0.1"])) == [
        "criterion                            target    current                          status",
        "infrastructure                       2 checks  1 of 2 pass; grad-ratio[A] warn  WARN",
        "stage A: first_acc > 0.1 by step 80  0.1       0.25                             pass",
        "latent_nll < 1.1 * text_nll          11.44     13.68                            FAIL",
        "f1 > 0.01                                                                       not checked",
        "f1 > 0.1                                                                        full run",
    ]


def test_names_stand_before_criteria_and_readings_are_no_infrastructure() -> None:
    """A reading that warns says something of the metric, and nothing of what carries the smoke."""
    named = {"name": "gradient health"}
    criterion = Finding(
        id="accept[max(grad_norm) < 500]", status="pass", text="", observed=98.69, bound=500, data=named
    )
    findings = [finding("run"), criterion, finding("peaked[f1]", "warn"), finding("metrics", "warn"), finding("mix")]
    assert acceptance(outcome(findings, ["quality: f1 > 0.1"]))[1:] == [
        "infrastructure                         2 checks  2 of 2 pass  pass",
        "gradient health: max(grad_norm) < 500  500       98.69        pass",
        "quality: f1 > 0.1                                             full run",
    ]


def test_what_was_not_checked_is_no_failure_and_wiring_has_no_table() -> None:
    """The row's word is that of the gravest check."""
    findings = [finding("run"), finding("updates[B]", "not-checked"), finding("accept[a > 0]")]
    assert acceptance(outcome(findings))[1].endswith("updates[B] not-checked  not checked")
    assert acceptance(replace(outcome(findings), mode="wiring")) == []


def test_a_failed_check_is_a_failed_infrastructure() -> None:
    """However many others pass or warn."""
    findings = [finding("run"), finding("loss-trend", "fail"), finding("mix", "warn"), finding("accept[a > 0]")]
    assert acceptance(outcome(findings))[1].endswith("FAIL")


def test_a_smoke_without_criteria_has_no_table() -> None:
    """Nor has one that was refused before it ran."""
    assert acceptance(outcome([finding("run")], ["f1 > 0.1"])) == []


def test_a_smoke_that_was_stopped_before_it_was_judged_has_no_table() -> None:
    """A column of `not checked` says nothing that its verdict does not."""
    findings = [finding("loss-trend", "fail"), finding("accept[a > 0]", "not-checked")]
    assert acceptance(outcome(findings, ["f1 > 0.1"])) == []


STATUS = st.sampled_from(["pass", "fail", "not-checked"])
NUMBER = st.none() | st.floats()


@given(st.lists(st.tuples(STATUS, NUMBER, NUMBER), min_size=1, max_size=6), st.lists(st.just("f1 > 1"), max_size=3))
def test_every_criterion_has_a_row(judged: list[tuple[str, float | None, float | None]], full: list[str]) -> None:
    """In order, its status as its last word, its numbers to four digits, whatever they are."""
    judged = [("pass", 1.0, 0.0), *judged]
    findings = [finding(f"accept[m{at} > 0]", *one) for at, one in enumerate(judged)]
    header, first, *rows = acceptance(outcome(findings, full))
    assert tuple(header.split()) == HEADER
    assert first.split()[0] == "infrastructure"
    assert len(rows) == len(judged) + len(full)
    for at, ((status, observed, bound), row) in enumerate(zip(judged, rows, strict=False)):
        assert row.startswith(f"m{at} > 0 ")
        assert row.endswith({"pass": "pass", "fail": "FAIL", "not-checked": "not checked"}[status])
        for value in (observed, bound):
            if value is not None:
                assert f"{value:.4g}" in row.split() or not math.isfinite(value)
