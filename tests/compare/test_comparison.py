"""Compare two runs: the arithmetic of the rows, and the points at which runs are compared."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.compare.comparison import ComparisonRow, Run, RunComparison, compare, scale_of
from pytest_smoke.report.comparison import comparison_markdown, comparison_text

LOSSES = st.lists(st.floats(0.01, 100), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("old", "new", "better", "change"),
    [
        (13.34, 10.4, "lower", "-22 %, better"),
        (0.0, 0.0833, "higher", "from 0, +0.0833, better"),
        (0.0, 0.0, "higher", "none"),
        (0.5, 0.0, "higher", "-100 %, worse"),
        (-2.0, -1.0, "higher", "+50 %, better"),
        (1.0, 50.0, "lower", "50x, worse"),
        (1.0, math.inf, "lower", "not finite"),
        (100, 102, "", "+2.0 %"),
        ("hold", "promote", "", ""),
        (1.0, None, "lower", ""),
    ],
)
def test_a_change_is_described_in_words(old: str | float, new: str | float | None, better: str, change: str) -> None:
    assert ComparisonRow(name="m", old=old, new=new, better=better).change == change


def run(losses: list[float], batch: int | None) -> Run:
    points = list(enumerate(losses))
    return Run(
        name="r", verdict="promote", text="", steps=len(losses), loss=points, metrics={"f1": points}, batch=batch
    )


def row(found: RunComparison, name: str) -> ComparisonRow:
    return next(one for one in found.rows if one.name.startswith(name))


@given(LOSSES, LOSSES, st.sampled_from([None, 8, 12]), st.sampled_from([None, 8, 12]))
def test_alignment_points_are_the_last_that_both_runs_reached(
    one: list[float], other: list[float], batch: int | None, other_batch: int | None
) -> None:
    other = [*other[:-1], max(other) + 1.0]  # a metric that never changes has no row
    found = compare(run(one, batch), run(other, other_batch))
    scale, other_scale = (batch, other_batch) if batch and other_batch else (1, 1)
    common = min(len(one) * scale, len(other) * other_scale)
    marks = [r for r in found.rows if r.name.startswith("f1 at ")]
    if len(one) * scale == len(other) * other_scale:
        assert marks == []
        return
    (marked,) = marks
    for values, step, size in ((one, marked.old_step, scale), (other, marked.new_step, other_scale)):
        assert step is not None
        assert step * size <= common
        assert step == len(values) - 1 or (step + 1) * size > common


@given(LOSSES, LOSSES)
def test_peaks_and_ends_equal_those_of_the_series(one: list[float], other: list[float]) -> None:
    found = compare(run(one, None), run(other, None))
    if len({*one, *other}) == 1 and min(len(one), len(other)) > 1:
        assert found.unchanged == {"f1": one[0]}
        assert not any(one.name.startswith("f1") for one in found.rows)
        return
    assert found.unchanged == {}
    assert row(found, "f1, peak").old == max(one)
    assert row(found, "f1, peak").old_step == one.index(max(one))
    assert row(found, "f1, final").new == other[-1]
    assert row(found, "loss, lowest").new == min(other)
    assert found.rows[0].name == "verdict"


@given(st.lists(st.integers(1, 400), min_size=8, max_size=40, unique=True), st.sampled_from([0.125, 0.5, 2, 3, 8]))
def test_a_constant_ratio_of_two_curves_is_their_scale(levels: list[int], factor: float) -> None:
    old = [(step, level / 10) for step, level in enumerate(levels)]
    found = scale_of(old, [(step, factor * value) for step, value in old])
    assert found == pytest.approx(factor)
    assert scale_of(old, old) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([2.0] * 20, [1.0] * 20),  # two flat losses
        ([4.0, 3.0, 2.0, 1.0], [4.4, 3.2, 2.3, 1.2]),
        ([4.0, 3.0, 2.0], [8.0, 6.0, 4.0]),  # too few
        ([4.0, 3.0, math.nan, 1.0], [8.0, 6.0, 4.0, 2.0]),
        ([4.0, 3.0, 2.0, 1.0], [-8.0, -6.0, -4.0, -2.0]),
    ],
)
def test_other_pairs_of_curves_have_no_scale(old: list[float], new: list[float]) -> None:
    assert scale_of(list(enumerate(old)), list(enumerate(new))) is None


def staged(ends: dict[str, tuple[int, int]], f1: float) -> Run:
    """Return a run with losses of 10 in stage A and 1 in stage B, and a metric that rises up to `f1`."""
    steps = max(end for _, end in ends.values())
    stages = [
        {"name": name, "first_step": first, "steps": end - first, "planned_steps": end - first, "settings": {"lr": f1}}
        for name, (first, end) in ends.items()
    ]
    loss = [10.0 if step < ends["A"][1] else 1.0 for step in range(steps)]
    return Run(
        name="r",
        verdict="promote",
        text="",
        steps=steps,
        loss=list(enumerate(loss)),
        metrics={"f1": [(step, f1 * step / steps) for step in range(steps)], "text_f1": [(0, 0.4), (steps - 1, 0.4)]},
        facts={"stages": stages},
    )


def test_equal_stages_are_compared_at_their_ends() -> None:
    short = staged({"A": (0, 40), "B": (40, 80)}, 0.2)
    found = compare(short, staged({"A": (0, 160), "B": (160, 320)}, 0.4))
    rows = {row.name: row for row in found.rows}
    assert (rows["steps, stage A"].old, rows["steps, stage A"].new) == (40, 160)
    assert (rows["loss, stage A, last tenth"].old, rows["loss, stage A, last tenth"].new) == (10.0, 10.0)
    assert (rows["loss, stage B, last tenth"].old, rows["loss, stage B, last tenth"].new) == (1.0, 1.0)
    assert (rows["f1 at the end of stage A"].old_step, rows["f1 at the end of stage A"].new_step) == (39, 159)
    assert not any(name.startswith(("loss, first", "loss, last", "loss, lowest", "loss at")) for name in rows)
    assert found.alignment == "both runs have the stages A and B, and are compared at the end of each"
    assert found.unchanged == {"text_f1": 0.4}
    for rendered in (comparison_text(found), comparison_markdown(found)):
        assert re.search(r"text\\?_f1 was 0\.4 at every evaluation of both runs", rendered)
    assert {(row.name, row.old, row.new) for row in found.settings} == {
        ("stages[A].lr", "0.2", "0.4"),
        ("stages[B].lr", "0.2", "0.4"),
    }
    other = compare(short, staged({"A": (0, 40), "C": (40, 80)}, 0.2))
    assert "loss, last tenth" in {row.name for row in other.rows}
    assert other.alignment.endswith("; the stages differ (OLD: A and B; NEW: A and C), so whole runs are compared")


def test_a_stage_that_was_never_reached_has_no_figures() -> None:
    stopped = staged({"A": (0, 40)}, 0.2)
    stopped.facts["stages"].append({"name": "B", "first_step": 40, "steps": 0, "planned_steps": 40})
    found = compare(stopped, staged({"A": (0, 40), "B": (40, 80)}, 0.2))
    rows = {row.name: row for row in found.rows}
    row = rows["loss, stage B, last tenth"]
    assert (row.old, row.new, row.change) == (None, 1.0, "")
    assert "f1 at the end of stage A" in rows
    assert not {"f1, peak", "f1, final", "gradient norm, peak"} & rows.keys()
    assert "OLD did not finish B, so peaks and last values are left out" in found.alignment


@pytest.mark.parametrize(
    ("old", "new", "steps", "alignment"),
    [
        (
            *(None, 8, 3),
            "the runs are compared at equal steps, up to step 2, because the effective batch of OLD is unknown; give "
            "it with --old-batch",
        ),
        (
            *(8, None, 2),
            "the runs are compared at their ends, because both have 2 steps; the effective batch of NEW is unknown; "
            "give it with --new-batch",
        ),
        (*(8, 8, 3), "the runs are compared at equal steps, up to step 2, because both have an effective batch of 8"),
    ],
)
def test_the_alignment_says_why_and_how_to_give_an_unknown_batch(
    old: int | None, new: int | None, steps: int, alignment: str
) -> None:
    assert compare(run([2.0, 1.0], old), run([1.0] * steps, new)).alignment == alignment
