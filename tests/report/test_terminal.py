"""The closing table, failure texts, warnings and JUnit properties."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.outcome import Facts, Finding, Outcome, StageFacts, VerdictWord
from pytest_smoke.recipe.model import Mode
from pytest_smoke.report.full_run_estimate import full_run_lines
from pytest_smoke.report.terminal import COLUMNS, failure, headline, properties, unchecked, verdict_table, warnings


def outcome(**changes: Any) -> Outcome:
    plain: dict[str, Any] = {
        "id": "a.smoke.yaml::constant",
        "recipe": "a.smoke.yaml",
        "mode": "constant",
        "cell": None,
        "verdict": "promote",
        "reason": "",
        "step": None,
        "text": "no rise",
        "decided_by": "",
        "findings": (),
    }
    return Outcome(**{**plain, **changes})


def test_a_failure_text_gives_three_hints_the_most_severe_first() -> None:
    findings = tuple(
        Finding(id=f"c{i}", status=status, text="t", hint=f"hint {i}")  # type: ignore[arg-type]  # a Status
        for i, status in enumerate(("warn", "not-checked", "fail", "fail", "pass"))
    )
    text = failure(outcome(verdict="hold", reason="ratio", findings=findings), place="a.smoke.yaml:3", rerun="pytest")
    assert text.startswith("hold (ratio): no rise\n")
    assert [line.strip() for line in text.splitlines() if "hint:" in line] == [
        "hint: hint 2",
        "hint: hint 3",
        "hint: hint 1",
    ]
    assert "a.smoke.yaml:3\n  rerun: pytest" in text


def test_the_hint_of_the_deciding_finding_is_the_first() -> None:
    findings = (
        Finding(id="mix", status="fail", text="m", hint="fix the mix"),
        Finding(id="loss-trend", status="not-checked", text="t", hint="train longer"),
    )
    decided = outcome(verdict="inconclusive", decided_by="loss-trend", findings=findings)
    text = failure(decided, place="a.smoke.yaml:3", rerun="pytest")
    assert text.index("train longer") < text.index("fix the mix")


def test_checks_that_passed_are_counted_and_listed_when_verbose() -> None:
    findings = (
        Finding(id="mix", status="pass", text="the mix is fair"),
        Finding(id="run", status="pass", text="done"),
        Finding(id="updates", status="not-checked", text="the run ended early"),
        Finding(id="finite", status="fail", text="the loss is NaN"),
    )
    failed = outcome(verdict="unstable", text="the loss is NaN", decided_by="finite", findings=findings)
    short = failure(failed, place="p", rerun="r")
    assert "  2 checks passed, 1 not checked; -v lists them" in short.splitlines()
    assert "the mix is fair" not in short
    verbose = failure(failed, place="p", rerun="r", verbose=True)
    assert "-v lists" not in verbose
    assert [text in verbose for text in ("the mix is fair", "done", "the run ended early")] == [True] * 3


def test_the_deciding_sentence_appears_once() -> None:
    text = "loss rose from 2.608 to 2.804"
    finding = Finding(id="loss-trend", status="fail", text=text)
    failed = outcome(verdict="unstable", text=text, decided_by="loss-trend", findings=(finding,))
    assert failure(failed, place="p", rerun="r").count(text) == 1


WORDS = st.lists(st.text(alphabet="abc.,/_-%", min_size=1, max_size=12), min_size=1, max_size=30).map(" ".join)


@given(WORDS, WORDS, st.integers(40, 120))
def test_a_failure_text_fits_the_width_without_breaking_a_word(text: str, hint: str, width: int) -> None:
    findings = (
        Finding(id="loss-trend", status="fail", text=text, hint=hint),
        Finding(id="mix", status="warn", text=hint),
    )
    curve = {"step": [*range(200)], "loss": [*range(200)]}
    failed = outcome(verdict="hold", text=text, decided_by="loss-trend", findings=findings, curve=curve)
    lines = failure(failed, place="a.smoke.yaml:3", rerun="pytest").splitlines()
    assert all(len(line) <= width for line in failure(failed, place="p", rerun="r", width=width).splitlines())
    words = {word for line in lines for word in line.split()}
    assert {*text.split(), *hint.split()} <= words


def test_an_outcome_without_any_figures_has_a_row() -> None:
    """As left by an xdist worker that died."""
    rows = verdict_table([outcome(verdict="error", reason="worker-crash")])
    assert rows[1][1] == "error"
    assert rows[1][0].split() == ["error", "(worker-crash)", "a::constant", "0"]


def test_unknown_figures_are_dashes() -> None:
    promoted = outcome(
        id="b.smoke.yaml::constant", facts=Facts(steps=9, planned_steps=9, evidence_steps=8, seconds=1.0)
    )
    rows = verdict_table([outcome(verdict="error", reason="worker-crash"), promoted])
    assert rows[1][0].split()[2:] == ["a::constant", "0", "-", "-"]
    assert rows[2][0].split()[2:] == ["9", "8", "1.0", "s"]


def test_a_wide_table_has_every_column_and_a_narrow_one_drops_the_least_important() -> None:
    facts = Facts(
        steps=800,
        planned_steps=800,
        evidence_steps=640,
        loss_first=2.303,
        loss_last=0.4123,
        smallest_rise=0.031,
        smallest_rise_share=0.021,
        seconds=12.4,
        estimated_full_seconds=312.0,
    )
    one = outcome(id="recipes/tagger/tagger.smoke.yaml::constant", facts=facts)
    wide = [line for line, _ in verdict_table([one], width=120)]
    assert wide == [
        "verdict  smoke run         steps  evidence  loss             smallest rise  time  full run",
        "promote  tagger::constant  800    640       2.303 -> 0.4123  2.1 %          12 s  about 5 min 12 s",
    ]
    narrow = [line for line, _ in verdict_table([one], width=60)]
    assert narrow == [
        "verdict  smoke run         steps  loss             time",
        "promote  tagger::constant  800    2.303 -> 0.4123  12 s",
    ]


@pytest.mark.parametrize(
    ("shown", "mode", "verdict", "failed"),
    [
        (True, "constant", "promote", ""),
        (True, "constant", "hold", "accept[val_f1 > 0.6]"),
        (False, "constant", "hold", "learning"),
        (False, "constant", "hold", "updates"),
        (False, "constant", "hold", "loss-trend"),
        (False, "wiring", "hold", "overfit"),
        (False, "constant", "unstable", ""),
    ],
)
def test_the_smallest_rise_is_shown_only_of_a_run_that_trained(
    shown: bool, mode: Mode, verdict: VerdictWord, failed: str
) -> None:
    facts = Facts(steps=800, planned_steps=800, evidence_steps=640, smallest_rise_share=0.021)
    findings = [Finding(id=failed, status="fail", text="")] if failed else []
    one = outcome(facts=facts, mode=mode, verdict=verdict, findings=findings)
    assert any("2.1 %" in line for line, _ in verdict_table([one], width=160)) == shown


@given(st.integers(1, 200))
def test_verdict_name_and_steps_are_never_dropped(width: int) -> None:
    header, row = (line for line, _ in verdict_table([outcome(facts=Facts(steps=3, planned_steps=9))], width=width))
    assert header.split("  ")[0] == "verdict"
    assert [word in row for word in ("promote", "a::constant", "3/9")] == [True] * 3


@pytest.mark.parametrize("reason", ["wiring", "preflight"])
def test_a_completed_wiring_or_preflight_run_reads_as_a_success(reason: str) -> None:
    completed = outcome(verdict="inconclusive", reason=reason, text="10 steps ran")
    (_, header_style), (row, style) = verdict_table([completed])
    assert header_style == ""
    assert row.startswith(f"{reason} ok  a::constant")
    assert style == "promote"
    assert headline(completed) == f"{reason} ok: 10 steps ran"


def test_stages_have_rows_below_their_smoke_run() -> None:
    stages = (
        StageFacts(
            name="A",
            first_step=0,
            steps=400,
            planned_steps=400,
            evidence_steps=380,
            full_steps=9000,
            loss_verdict="stable",
            criteria="fail",
            loss_first=2.0,
            loss_last=1.0,
            train_seconds=4.0,
        ),
        StageFacts(name="B", first_step=400, steps=0, planned_steps=400, evidence_steps=0, full_steps=9000),
    )
    rows = verdict_table([outcome(verdict="hold", reason="stage", facts=Facts(steps=400, stages=stages))], width=100)
    assert [line.split("  ")[1] for line, _ in rows[2:]] == ["criteria failed", "not started"]
    assert [style for _, style in rows] == ["", "hold", "hold", "hold"]
    assert rows[2][0].split("  stage A")[1].split() == ["400", "380", "2", "->", "1", "4.0", "s"]


def test_only_promoted_runs_list_their_warnings() -> None:
    finding = Finding(id="schedule", status="warn", text="the tail is short", hint="train longer")
    assert warnings([outcome(verdict="hold", findings=(finding,))]) == []
    promoted = outcome(findings=(finding,))
    assert warnings([promoted]) == ["warning: a::constant: schedule: the tail is short"]
    assert warnings([promoted], verbose=True)[1:] == ["  hint: train longer"]


def test_recipes_of_the_same_name_are_told_apart_by_their_folder() -> None:
    ids = ["x/a/m.smoke.yaml::constant", "x/b/m.smoke.yaml::constant", "x/b/n.smoke.yaml::constant"]
    rows = [line.split()[1] for line, _ in verdict_table([outcome(id=id) for id in ids])[1:]]
    assert rows == ["a/m::constant", "b/m::constant", "n::constant"]


def test_the_full_run_is_estimated_for_promoted_runs_only() -> None:
    facts = Facts(
        steps=400,
        full_steps=20_000,
        samples_per_second=12_345.6,
        estimated_full_seconds=7509.0,
        full_accept=("f1 > 0.9", "max(grad_norm) < 10"),
    )
    assert full_run_lines([outcome(verdict="hold", facts=facts)]) == []
    assert full_run_lines([outcome(facts=Facts())]) == []
    assert full_run_lines([outcome(facts=facts)], width=300) == [
        "a::constant: the full run has 20,000 steps (50x the smoke run) and takes about 2 h 5 min at "
        "12,346 samples/s; it must meet f1 > 0.9 and max(grad_norm) < 10"
    ]
    assert full_run_lines([outcome(facts=Facts(full_accept=("f1 > 0.9",)))]) == [
        "a::constant: the full run must meet f1 > 0.9"
    ]


def test_junit_properties_hold_the_verdict_the_checks_and_the_known_figures() -> None:
    facts, finding = Facts(steps=9), Finding(id="mix", status="warn", text="")
    found = dict(properties(outcome(step=7, facts=facts, findings=(finding,))))
    assert found["smoke_verdict"] == "promote"
    assert found["smoke_step"] == 7
    assert found["smoke_steps"] == 9
    assert found["smoke_check[mix]"] == "warn"
    assert "smoke_loss_first" not in found


@pytest.mark.parametrize("reason", ["preflight", "wiring"])
def test_junit_calls_a_completed_run_ok(reason: str) -> None:
    done = outcome(verdict="inconclusive", reason=reason)
    assert dict(properties(done))["smoke_verdict"] == f"{reason} ok"


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_verdict_table_keeps_the_end_of_a_name_that_does_not_fit(width: int) -> None:
    ids = [f"test_rate.py::test_only_the_{'very_' * 20}high_learning_rate_diverges#{at}" for at in range(2)]
    rows = [line for line, _ in verdict_table([outcome(id=id) for id in ids], width=width)]
    assert max(map(len, rows)) <= width
    assert [row.split()[1][-20:] for row in rows[1:]] == [name[-20:] for name in ids]


def test_column_names_are_unique() -> None:
    assert len(set(COLUMNS)) == len(COLUMNS)


def test_a_promotion_says_how_many_checks_were_not_made_and_with_v_why() -> None:
    findings = (
        Finding(id="updates", status="not-checked", reason="no-data", text="not checked: the log does not show it"),
        Finding(id="learning", status="not-checked", reason="no-data", text="not checked: the log does not show it"),
        Finding(id="mix-drawn", status="not-checked", reason="no-data", text="not checked: no source is named"),
        Finding(id="loss-trend", status="pass", text="no rise"),
    )
    promoted, held = outcome(findings=findings), outcome(verdict="hold", findings=findings)
    assert unchecked([promoted, held]) == ["a::constant: 3 checks not checked; -v lists them"]
    other = outcome(id="b.smoke.yaml::constant", findings=findings)
    assert unchecked([promoted, other]) == ["each of 2 promoted smoke runs: 3 checks not checked; -v lists them"]
    assert unchecked([promoted], verbose=True) == [
        "a::constant: not checked: updates, learning: the log does not show it",
        "a::constant: not checked: mix-drawn: no source is named",
    ]
    assert unchecked([outcome()]) == []
    assert ("smoke_check[updates]", "not-checked") in properties(promoted)
    assert ("smoke_not_checked[updates]", "the log does not show it") in properties(promoted)
