"""The lines that show running smoke runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from pytest_smoke.collect.terminal import ESCAPE
from pytest_smoke.report.live import RichDisplay, minute_line, plain_line
from pytest_smoke.report.run_status import RunStatus, activity_text, alarm_text, left_text, memory_text

RUN = RunStatus(
    id="lm.smoke.yaml::constant",
    doing="",
    started_at=0.0,
    reported_at=100.0,
    step=412,
    steps=413,
    planned_steps=2000,
    loss=0.70668,
    lr=0.003,
    losses=(3.0, 2.0, 1.0, 0.8, 0.7),
    seconds_left=75.0,
    level=0.68,
    rise=0.0272,
    alarm=0.0748,
    memory_gib=1.94,
    device_memory_gib=79.1,
)
SESSION: dict[str, Any] = {"finished": 1, "expected": 12, "elapsed": 252.0, "now": 100.0}


def test_the_display_of_one_run_at_80_columns() -> None:
    lines = RichDisplay(encoding="utf-8", colours=False).lines([RUN], **SESSION, width=80, height=20)
    assert lines == [
        "1 of 12 smoke runs finished in 4 min 12 s",
        "  lm::constant  step 412/2,000  ━━╸            1 min 15 s left  1.9 of 79.1 GiB",
        "    loss █▅▂▁▁ 0.7067  lr 0.003  4.0 % above its lowest level, alarm at 11 %",
    ]


def test_columns_of_several_runs_are_aligned_and_a_low_terminal_hides_curves_first() -> None:
    runs = [replace(RUN, id=f"{name}.smoke.yaml::constant", memory_gib=None) for name in ("a", "longer", "third")]
    display = RichDisplay(encoding="utf-8", colours=False)
    lines = display.lines(runs, **SESSION, width=80, height=6)
    assert [line.index("step") for line in lines[1:]] == [20, 20, 20]
    assert display.lines(runs, **SESSION, width=80, height=3)[1:] == [lines[1], "  and 2 more"]
    assert len(display.lines(runs, **SESSION, width=80, height=1)) == 1


def test_a_terminal_without_unicode_gets_no_curve_and_a_plain_bar() -> None:
    lines = RichDisplay(encoding="latin-1", colours=False).lines([RUN], **SESSION, width=100, height=20)
    assert all(line.isascii() for line in lines)
    assert "loss  0.7067" in lines[2]


@given(
    st.lists(
        st.builds(
            replace,
            st.just(RUN),
            id=st.text(max_size=60),
            doing=st.sampled_from(["", "evaluating", "exporting the model\x1b[2J"]),
            loss=st.none() | st.floats(),
            losses=st.lists(st.floats(), max_size=90).map(tuple),
            level=st.none() | st.floats(-10, 10),
            rise=st.floats(0, 10),
            alarm=st.floats(0, 10),
            planned_steps=st.integers(0, 10**7),
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(40, 120),
    st.integers(1, 12),
)
def test_no_line_is_wider_than_the_terminal_and_none_too_many(runs: list[RunStatus], width: int, height: int) -> None:
    lines = RichDisplay(encoding="utf-8", colours=True).lines(runs, **SESSION, width=width, height=height)
    assert len(lines) <= height
    for line in lines:
        plain = ESCAPE.sub("", line)
        assert cell_len(plain) < width
        assert "\x1b[2J" not in line
        assert plain.isprintable()


def test_a_log_names_three_runs_and_counts_the_others() -> None:
    runs = [replace(RUN, id=f"{name}.smoke.yaml::constant") for name in "abcde"]
    runs[1] = replace(runs[1], doing="evaluating", reported_at=55.0)
    assert minute_line(runs, **SESSION) == (
        "smoke: 1 of 12 smoke runs finished in 4 min 12 s; running: "
        "a::constant (step 412/2,000, loss 0.7067, 1 min 15 s left), "
        "b::constant (evaluating for 45 s, step 412/2,000, loss 0.7067), "
        "c::constant (step 412/2,000, loss 0.7067, 1 min 15 s left), 2 more"
    )


def test_one_line_for_a_terminal() -> None:
    assert plain_line([RUN], width=80, now=100.0) == "  step 412/2,000  loss 0.7067  lr 0.003  1 min 15 s left"
    assert len(plain_line([RUN, RUN], width=30, now=100.0)) == 29


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({}, "4.0 % above its lowest level, alarm at 11 %"),
        ({"rise": 0.0}, "at its lowest level, alarm at 11 % above it"),
        ({"is_confirming": True, "rise": 0.1}, "15 % above its lowest level: a rise, not confirmed yet"),
        ({"level": -1.0}, "0.027 above its lowest level, alarm at 0.075"),
        ({"level": None}, ""),
    ],
)
def test_the_distance_to_the_alarm(changed: dict[str, Any], text: str) -> None:
    assert alarm_text(replace(RUN, **changed)) == text


def test_what_a_run_does() -> None:
    assert activity_text(RUN, 100.0) == "step 412/2,000"
    assert activity_text(RUN, 112.0) == "step 412/2,000, no step for 12 s"
    assert activity_text(replace(RUN, stage="joint", doing="evaluating"), 100.0) == (
        "evaluating, stage joint, step 412/2,000"
    )
    assert activity_text(replace(RUN, step=None, doing="starting"), 130.0) == "starting for 30 s"
    assert left_text(RUN, 105.0) == "1 min 10 s left"
    assert memory_text(replace(RUN, device_memory_gib=None)) == "1.9 GiB"


def test_a_status_travels_as_json_and_ignores_what_a_newer_version_adds() -> None:
    assert RunStatus.from_dict({**RUN.to_dict(), "pid": 5, "losses": list(RUN.losses)}) == RUN
    with pytest.raises(TypeError):
        RunStatus.from_dict({"pid": 5})
