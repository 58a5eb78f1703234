"""`python -m pytest_smoke compare` on logs, and the arithmetic of its table."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.__main__ import main
from pytest_smoke.report.compare import Comparison, compare
from pytest_smoke.report.compare_rows import Row, Run
from pytest_smoke.report.compare_text import markdown, text

LOSSES = st.lists(st.floats(0.01, 100), min_size=1, max_size=40)


def write_log(path: Path, *, steps: int, seed: int, level: float) -> Path:
    """A CSV as trainers write one: a loss a step, a metric every tenth, the clock."""
    noise = random.Random(seed)
    lines = ["step,train_loss,grad_norm,val_f1,elapsed"]
    for step in range(steps):
        loss = level + 3 * math.exp(-step / 40) + noise.gauss(0, 0.02)
        metric = f"{min(step, 200) / 400:.4f}" if step % 10 == 0 else ""
        lines.append(f"{step},{loss},{1 + noise.random()},{metric},{step * 0.5}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def logs(tmp_path: Path) -> tuple[str, str]:
    old = write_log(tmp_path / "old.csv", steps=160, seed=1, level=1.0)
    new = write_log(tmp_path / "new.csv", steps=400, seed=2, level=0.8)
    return str(old), str(new)


def test_two_logs_are_compared_at_equal_steps(logs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """A column that is neither loss nor step is a metric; the clock is not."""
    assert main(["compare", *logs, "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    rows = {row["name"]: row for row in found["rows"]}
    assert next(iter(rows)) == "verdict"
    assert (rows["steps"]["old"], rows["steps"]["new"], rows["steps"]["change"]) == (160, 400, "+150 %")
    assert "samples seen" not in rows
    assert (rows["val_f1, peak"]["new"], rows["val_f1, peak"]["new_step"]) == (0.5, 200)
    assert (rows["val_f1 at step 160"]["old"], rows["val_f1 at step 160"]["new"]) == (0.375, 0.4)
    assert rows["loss, last tenth"]["change"].endswith("better")
    assert (rows["seconds"]["old"], rows["seconds"]["new"]) == (79.5, 199.5)
    assert not [name for name in rows if name.startswith("elapsed")]
    assert "not both batches are known: they are compared at equal steps, up to step 160" in found["alignment"]


def test_batches_that_are_told_align_two_logs(logs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """160 steps of 64 are 80 of 128."""
    assert main(["compare", *logs, "--old-batch", "64", "--new-batch", "128"]) == 0
    out = capsys.readouterr().out
    assert "effective batches differ (64 and 128)" in out
    assert "10,240 of them are step 160 of OLD and step 80 of NEW" in out
    assert "val_f1 at 10,240 samples" in out


@pytest.mark.parametrize(
    ("write", "argument", "fragments"),
    [
        (None, "absent.csv", ["absent.csv", "cannot be read"]),
        ("", "empty.csv", ["empty.csv", "the log is empty"]),
        ("{", "verdicts.json", ["verdicts.json is no JSON"]),
        ("[1]", "verdicts.json", ["is no report of smokes"]),
        ('{"schema": 9, "outcomes": []}', "verdicts.json", ["has schema 9; this version reads 1"]),
        ('{"schema": 1, "outcomes": []}', "verdicts.json", ["has 0 outcomes"]),
        ('{"schema": 1, "outcomes": [{"id": "a"}]}', "verdicts.json", ["is no report of smokes", "facts"]),
        ('{"schema": 1, "outcomes": []}', "verdicts.json::a", ["has no outcome 'a'; it has none"]),
    ],
)
def test_what_cannot_be_compared_is_one_sentence_and_exit_2(
    logs: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    write: str | None,
    argument: str,
    fragments: list[str],
) -> None:
    """On the error stream; nothing on the other."""
    path = tmp_path / argument
    if write is not None:
        Path(str(path).partition("::")[0]).write_text(write)
    assert main(["compare", logs[0], str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("compare: ")
    assert err.count("\n") == 1
    assert all(fragment in err for fragment in fragments), err


@pytest.mark.parametrize(
    ("old", "new", "better", "change"),
    [
        (13.34, 10.4, "lower", "-22 %, better"),
        (0.0, 0.0833, "higher", "from 0, +0.0833, better"),
        (0.0, 0.0, "higher", "none"),
        (0.5, 0.0, "higher", "-100 %, worse"),
        (-2.0, -1.0, "higher", "+50 %, better"),
        (1.0, 50.0, "lower", "50 times, worse"),
        (1.0, math.inf, "lower", "not finite"),
        (100, 102, "", "+2 %"),
        ("hold", "promote", "", ""),
        (1.0, None, "lower", ""),
    ],
)
def test_a_change_in_words(old: str | float, new: str | float | None, better: str, change: str) -> None:
    """From zero there is no percentage; better and worse go by the metric."""
    assert Row(name="m", old=old, new=new, better=better).change == change


def run(losses: list[float], batch: int | None) -> Run:
    points = list(enumerate(losses))
    return Run(
        name="r", verdict="promote", text="", steps=len(losses), loss=points, metrics={"f1": points}, batch=batch
    )


def row(found: Comparison, name: str) -> Row:
    return next(one for one in found.rows if one.name.startswith(name))


@given(LOSSES, LOSSES, st.sampled_from([None, 8, 12]), st.sampled_from([None, 8, 12]))
def test_the_marks_are_the_last_both_have_reached(
    one: list[float], other: list[float], batch: int | None, other_batch: int | None
) -> None:
    """Neither value that is compared comes after the common point, and no later one was within it."""
    other = [*other[:-1], max(other) + 1.0]  # a metric that never moves has no row
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
def test_peaks_and_ends_are_those_of_the_series(one: list[float], other: list[float]) -> None:
    """Against the builtins; the first of equal peaks is named. What never moved is named once."""
    found = compare(run(one, None), run(other, None))
    if len({*one, *other}) == 1 and min(len(one), len(other)) > 1:
        assert found.unmoved == {"f1": one[0]}
        assert not any(one.name.startswith("f1") for one in found.rows)
        return
    assert found.unmoved == {}
    assert row(found, "f1, peak").old == max(one)
    assert row(found, "f1, peak").old_step == one.index(max(one))
    assert row(found, "f1, final").new == other[-1]
    assert row(found, "loss, lowest").new == min(other)
    assert found.rows[0].name == "verdict"


def staged(ends: dict[str, tuple[int, int]], f1: float) -> Run:
    """Losses of 10 in stage A and 1 in stage B; the metric rises along the steps, up to `f1`."""
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


def test_stages_are_compared_at_their_ends() -> None:
    """40 steps a stage against 160: a loss of stage B says nothing beside one of stage A."""
    short = staged({"A": (0, 40), "B": (40, 80)}, 0.2)
    found = compare(short, staged({"A": (0, 160), "B": (160, 320)}, 0.4))
    rows = {row.name: row for row in found.rows}
    assert (rows["steps, stage A"].old, rows["steps, stage A"].new) == (40, 160)
    assert (rows["loss, stage A, last tenth"].old, rows["loss, stage A, last tenth"].new) == (10.0, 10.0)
    assert (rows["loss, stage B, last tenth"].old, rows["loss, stage B, last tenth"].new) == (1.0, 1.0)
    assert (rows["f1 at the end of stage A"].old_step, rows["f1 at the end of stage A"].new_step) == (39, 159)
    assert not any(name.startswith(("loss, first", "loss, last", "loss, lowest", "loss at")) for name in rows)
    assert found.alignment == "both have the stages A, B, and are compared at the end of each"
    assert found.unmoved == {"text_f1": 0.4}
    for said in (text(found), markdown(found)):
        assert re.search(r"the same at every evaluation of both: text\\?_f1 0\.4", said)
    assert {(row.name, row.old, row.new) for row in found.settings} == {
        ("stages[A].lr", "0.2", "0.4"),
        ("stages[B].lr", "0.2", "0.4"),
    }
    other = compare(short, staged({"A": (0, 40), "C": (40, 80)}, 0.2))
    assert "loss, last tenth" in {row.name for row in other.rows}
    assert other.alignment.endswith("; their stages are not the same (A, B and A, C), so whole runs are compared")


def test_a_stage_that_never_began_is_compared_with_nothing() -> None:
    """Its smoke was stopped before it: the end of stage A says nothing beside that of stage B."""
    stopped = staged({"A": (0, 40)}, 0.2)
    stopped.facts["stages"].append({"name": "B", "first_step": 40, "steps": 0, "planned_steps": 40})
    found = compare(stopped, staged({"A": (0, 40), "B": (40, 80)}, 0.2))
    rows = {row.name: row for row in found.rows}
    row = rows["loss, stage B, last tenth"]
    assert (row.old, row.new, row.change) == (None, 1.0, "")
    assert "f1 at the end of stage A" in rows
    assert not {"f1, peak", "f1, final", "gradient norm, peak"} & rows.keys()
    assert "OLD did not end B, so peaks and last values are left out" in found.alignment
