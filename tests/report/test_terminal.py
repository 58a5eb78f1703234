"""Outcomes survive every form they are written in."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.files import write_atomic
from pytest_smoke.outcome import Finding, Outcome
from pytest_smoke.report.sparkline import BARS, BROKEN, sparkline
from pytest_smoke.report.terminal import failure, properties, verdict_table
from pytest_smoke.report.verdicts_json import verdicts_json

FLOATS = st.floats(allow_nan=True, allow_infinity=True)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FLOATS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FINDINGS = st.builds(
    Finding,
    id=st.text(min_size=1, max_size=8),
    status=st.sampled_from(("pass", "warn", "fail", "not-checked")),
    text=st.text(max_size=20),
    observed=PLAIN,
    data=st.dictionaries(st.text(max_size=5), PLAIN, max_size=2),
)


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
        "findings": (),
    }
    return Outcome(**{**plain, **changes})


@given(st.lists(FINDINGS, max_size=3), st.dictionaries(st.text(max_size=5), PLAIN, max_size=3))
def test_the_wire_form_gives_the_outcome_back(findings: list[Finding], facts: dict[str, Any]) -> None:
    """NaN included: repr is compared, because NaN equals nothing."""
    one = outcome(findings=tuple(findings), facts=facts)
    assert repr(Outcome.from_dict(one.to_dict())) == repr(one)


@given(st.dictionaries(st.text(max_size=5), PLAIN, max_size=3))
def test_verdicts_json_is_strict_whatever_it_holds(facts: dict[str, Any]) -> None:
    """A bare NaN would break every other reader."""

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    tree = json.loads(verdicts_json([outcome(facts=facts)]), parse_constant=refuse)
    assert tree["schema"] == 1
    assert tree["outcomes"][0]["verdict"] == "promote"


def test_outcomes_are_in_the_order_of_their_ids() -> None:
    """However workers finished."""
    text = verdicts_json([outcome(id="b"), outcome(id="a")])
    assert [o["id"] for o in json.loads(text)["outcomes"]] == ["a", "b"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    """A lone surrogate cannot be encoded: the write breaks in the middle."""
    path = tmp_path / "deep" / "verdicts.json"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "x" * 10_000 + "\ud800")
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["verdicts.json"]


def test_a_report_is_as_readable_as_any_new_file(tmp_path: Path) -> None:
    """Not private to who ran it, as a temporary file is."""
    (tmp_path / "plain").touch()
    write_atomic(tmp_path / "report", "x")
    assert (tmp_path / "report").stat().st_mode == (tmp_path / "plain").stat().st_mode


@given(st.lists(FLOATS, max_size=200), st.integers(1, 80))
def test_a_sparkline_has_a_bar_a_block_and_marks_what_is_not_finite(values: list[float], width: int) -> None:
    """At most `width` of them; the lowest and the highest block are the lowest and the highest bar."""
    line = sparkline(values, width=width)
    assert len(line) == min(len(values), width)
    assert set(line) <= {*BARS, BROKEN}
    if len(values) <= width:
        assert [mark == BROKEN for mark in line] == [not math.isfinite(value) for value in values]


def test_a_rise_looks_like_one() -> None:
    """Eight even steps are the eight bars."""
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == BARS


def test_the_failure_text_gives_three_hints_the_gravest_first() -> None:
    """A fourth is noise."""
    findings = tuple(
        Finding(id=f"c{i}", status=status, text="t", hint=f"hint {i}")
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


def test_the_table_has_a_row_for_an_outcome_without_any_figures() -> None:
    """A worker that died leaves one."""
    rows = verdict_table([outcome(verdict="error", reason="worker-crash")])
    assert rows[1][1] == "error"
    assert rows[1][0].split() == ["a.smoke.yaml", "constant", "error", "(worker-crash)", "0", "-", "-", "-", "-"]


def test_junit_properties_carry_verdict_checks_and_figures() -> None:
    """What is not known is left out."""
    found = dict(
        properties(
            outcome(
                step=7, facts={"steps": 9, "loss_first": None}, findings=(Finding(id="mix", status="warn", text=""),)
            )
        )
    )
    assert found["smoke_verdict"] == "promote"
    assert found["smoke_step"] == 7
    assert found["smoke_steps"] == 9
    assert found["smoke_check[mix]"] == "warn"
    assert "smoke_loss_first" not in found
