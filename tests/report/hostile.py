"""Outcomes with texts that try to break out of the format that they are shown in."""

from __future__ import annotations

from hypothesis import strategies as st

from pytest_smoke.outcome import VERDICTS, Facts, Finding, Outcome
from tests.report.test_terminal import outcome

TEXTS = (
    "a|b",
    "a\\|b",
    "ends with a backslash\\",
    "`code` ``` ~~~",
    "<script>alert(1)</script><!-- a comment -->",
    "</details></code></td>",
    "&lt;b&gt; &#64;octocat",
    "@octocat and @octo/team",
    "#12 and octo/repo#12",
    "[text](https://example.org) ![image](x.png) <https://example.org>",
    "https://example.org www.example.org a@example.org 1@.a",
    "**bold** __bold__ *a* _a_ ~~a~~",
    "$x^2$ $$x$$",
    "# heading",
    "- item",
    "1. item",
    "1) item",
    "> quote",
    "---",
    "===",
    "| a | b |\n|---|---|\n| c | d |",
    "two\nlines\r\nor\tmore",
    "\x1b[31mred\x1b[0m \x00 \x07",
    "\u202ereversed \u2028 \u200b",
    "::error file=a.py,line=1::forged\n::error::forged",
    "100 % %0A, and: commas",
    "]]> <![CDATA[",
    "\U0001f600 \xe9 \u4e2d",
    " leading and trailing ",
    "",
    "x" * 20_000,
)
ANY_TEXT = st.sampled_from(TEXTS) | st.text(max_size=30) | st.text("\\|`*_[]()<>&#@:/.$~-\n a1", max_size=30)
FINDINGS = st.builds(
    Finding,
    id=ANY_TEXT.map(lambda text: f"loss-trend[{text}]") | ANY_TEXT,
    status=st.sampled_from(("pass", "warn", "fail", "not-checked")),
    text=ANY_TEXT,
    reason=ANY_TEXT,
    hint=ANY_TEXT,
    key_place=ANY_TEXT | ANY_TEXT.map(lambda text: f"{text}:3"),
    place=ANY_TEXT | st.just("/home/me/task.py:7"),
)


@st.composite
def hostile_outcomes(draw: st.DrawFn) -> Outcome:
    """Draw an outcome; nothing in it is made plain before."""
    findings = tuple(draw(st.lists(FINDINGS, max_size=3)))
    return outcome(
        id=draw(ANY_TEXT),
        recipe=draw(ANY_TEXT | st.just("/elsewhere/a.smoke.yaml")),
        cell=draw(st.none() | ANY_TEXT),
        verdict=draw(st.sampled_from(VERDICTS)),
        reason=draw(ANY_TEXT | st.just("preflight")),
        text=draw(ANY_TEXT),
        decided_by=findings[-1].id if findings else "",
        findings=findings,
        facts=Facts(repository_folder=draw(st.none() | ANY_TEXT)),
        curve=draw(st.just({}) | st.just({"loss": [2.0, 1.0, float("nan")], "step": [0, 1, 2]})),
    )
