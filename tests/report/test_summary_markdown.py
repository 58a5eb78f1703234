"""The Markdown summary: worst first, within its limit, and with nothing that a text smuggled in."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.outcome import VERDICTS, Facts, Finding, Outcome, StageFacts
from pytest_smoke.report.order import WORST_FIRST, worst_first
from pytest_smoke.report.summary_markdown import LIMIT_BYTES, summary_markdown
from tests.report.hostile import TEXTS, hostile_outcomes
from tests.report.test_markdown import OURS, tokens
from tests.report.test_terminal import outcome


def failed(number: int, text: str = "loss rose", **changes: object) -> Outcome:
    hint, place = "reduce learning_rate", "r.smoke.yaml:3"
    finding = Finding(id="loss-trend", status="fail", text=text, hint=hint, key_place=place)
    values = {"id": f"r{number:05}.smoke.yaml::constant", "recipe": f"r{number:05}.smoke.yaml"}
    return outcome(
        **{**values, "verdict": "unstable", "reason": "rise", "text": text, "decided_by": "loss-trend", **changes},
        findings=(finding,),
    )


def test_every_verdict_has_a_place_in_the_order() -> None:
    assert set(WORST_FIRST) == set(VERDICTS)


def test_runs_are_sorted_by_verdict_the_worst_first() -> None:
    preflight = outcome(id="preflight", verdict="inconclusive", reason="preflight")
    mixed = [preflight, outcome(id="fine"), *(outcome(id=word, verdict=word) for word in VERDICTS[1:])]
    ordered = [one.id for one in worst_first(mixed)]
    assert ordered == ["unstable", "error", "invalid", "hold", "inconclusive", "preflight", "fine"]


def test_a_failed_run_has_its_reason_hint_line_and_the_command_that_reruns_it() -> None:
    curve = {"loss": [2.0, 1.0, 3.0]}
    text = summary_markdown([outcome(), failed(1, curve=curve, facts=Facts(steps=30))], folder="out")
    assert "### Smoke runs: 1 unstable, 1 promoted" in text
    assert text.index("| **unstable (rise)** |") < text.index("| promote |")
    for part in (
        "loss rose",
        "- hint: reduce learning\\_rate",
        "at <code>r.smoke.yaml:3</code>",
        "rerun: <code>pytest --smoke r00001.smoke.yaml::constant</code>",
        "steps 0-29",
        "report folder <code>out</code>",
    ):
        assert part in text


def test_the_command_that_reruns_is_quoted_for_a_shell_and_left_out_for_runs_of_a_test() -> None:
    spaced = failed(1, id="a b.smoke.yaml::constant", recipe="a b.smoke.yaml")
    assert "pytest --smoke 'a b.smoke.yaml::constant'" in summary_markdown([spaced])
    options = ("--smoke-device", "cpu", "--smoke-isolation", "none")
    rerun = f"pytest --smoke {' '.join(options)} r00001.smoke.yaml::constant"
    assert rerun in summary_markdown([failed(1, facts=Facts(rerun_options=options))])
    assert "rerun" not in summary_markdown([failed(1, id="test_a.py::test_b#0", recipe="a.smoke.yaml")])


def test_stages_cells_and_warnings_are_shown() -> None:
    stage = StageFacts(name="B", first_step=0, steps=0, planned_steps=50, evidence_steps=0, full_steps=500)
    base = outcome(facts=Facts(steps=10, planned_steps=10, stages=(stage,), loss_last=0.5))
    cell = outcome(id="a.smoke.yaml::constant[x]", cell="x", facts=Facts(steps=10, cell_changes={"args.a": 1}))
    warned = outcome(
        id="w", recipe="w", findings=(Finding(id="peak-regression", status="warn", text="fell", hint="stop"),)
    )
    text = summary_markdown([base, cell, warned])
    assert "| not started | stage B |" in text
    assert "#### ablations of a.smoke.yaml, mode constant" in text
    assert "| x | promote |" in text
    assert "<summary>1 warning of promoted smoke runs</summary>" in text
    assert "<code>peak-regression</code>: fell. Hint: stop" in text


@given(st.lists(hostile_outcomes(), max_size=4), st.sampled_from((0, 100, 3000, 6000, LIMIT_BYTES)))
def test_a_summary_has_no_html_but_ours_and_keeps_its_limit(outcomes: list[Outcome], limit: int) -> None:
    text = summary_markdown(outcomes, folder="out", limit_bytes=limit)
    assert len(text.encode()) <= limit
    found = tokens(text)
    inline = [token for parent in found for token in parent.children or ()]
    assert {token.content for token in inline if token.type == "html_inline"} <= OURS
    assert not {token.type for token in inline} & {"link_open", "image", "em_open", "s_open"}
    blocks = [token.content.splitlines() for token in found if token.type == "html_block"]
    assert all(line.startswith(("<details>", "</details>", "<summary>")) for block in blocks for line in block)
    if limit == LIMIT_BYTES and outcomes:
        rows = [token for token in found if token.type == "tr_open"]
        assert len(rows) == 1 + len(outcomes)


def test_what_has_no_room_is_counted() -> None:
    deep = "folder/" * 12
    warned = (Finding(id="w", status="warn", text="x" * 400),)
    outcomes = [failed(at, TEXTS[at % len(TEXTS)], id=f"{at}/{deep}a.smoke.yaml::constant") for at in range(4000)]
    outcomes += [outcome(id=f"{at}/{deep}b.smoke.yaml::constant", findings=warned) for at in range(2000)]
    text = summary_markdown(outcomes, folder="out")
    assert LIMIT_BYTES * 0.9 < len(text.encode()) <= LIMIT_BYTES
    rows = len(re.findall(r"^\| (\*\*unstable|promote)", text, re.MULTILINE))
    reasons = len(re.findall(r"^#### ", text, re.MULTILINE))
    assert f"{6000 - rows:,} more smoke runs left out of this table" in text
    assert f"Reasons and hints of {4000 - reasons:,} more smoke runs are left out." in text
    assert "2,000 more warnings left out." in text


def test_a_session_without_smoke_runs_has_a_summary_that_says_so() -> None:
    assert summary_markdown([]) == "### Smoke runs: none\n"
