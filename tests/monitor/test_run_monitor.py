"""The stand's word at the end of a stage, whatever comes in and in whatever portions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.events import (
    Abort,
    BatchEquivalence,
    Continue,
    EndAfterStage,
    Ended,
    Event,
    Metrics,
    StageEnded,
    Step,
    Updates,
)
from pytest_smoke.monitor.final_findings import judge_loss, judge_rest
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Recipe

STEPS = 200


def monitor(*, goes_on: bool = False, criterion: str = "f1 > 0.5") -> RunMonitor:
    a = {"name": "A", "full_steps": 2000, "steps": STEPS, "accept": [criterion], "continue_on_fail": goes_on}
    data = {
        "task": "a:B",
        "full": {"batch_size": 8, "learning_rate": 0.1},
        "smoke": {},
        "stages": [a, {"name": "B", "full_steps": 3000, "steps": STEPS}],
    }
    return RunMonitor(Case(path="a.smoke.yaml", recipe=Recipe.model_validate(data), mode="constant"), early_stop=True)


def stage(first: int, name: str, f1: float, *, level: float = 1.0, broken_at: int | None = None) -> list[Event]:
    """What a child says of one stage: a falling loss, metrics, and its end."""
    loss = [level - n / 1000 + (n % 7) / 2000 for n in range(STEPS)]
    if broken_at is not None:
        loss[broken_at] = float("nan")
    steps: list[Event] = [
        Step(step=first + n, loss=value, terms={"ce": value}, grad_norm=1.0, lr=0.1, stage=name)
        for n, value in enumerate(loss)
    ]
    updates = Updates(stuck=(), without_gradient=(), outside_optimizer=(), checked=2)
    return [*steps, Metrics(first + STEPS - 1, {"f1": f1}), updates, StageEnded(name, 1.0)]


@given(f1=st.floats(0, 1), goes_on=st.booleans(), cuts=st.lists(st.integers(0, STEPS + 3), max_size=5))
def test_one_word_at_the_end_of_a_stage(f1: float, goes_on: bool, cuts: list[int]) -> None:
    """Go, or Halt where the criteria fail and nothing says to go on; once, however the records were portioned."""
    judge, records, words = monitor(goes_on=goes_on), stage(0, "A", f1), []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(records)], strict=True):
        judge.receive(records[start:end])
        words += [judge.command()]
    said = [command for command in words if command is not None]
    assert said == [(Continue(),) if f1 > 0.5 or goes_on else (EndAfterStage(),)]
    assert judge.command() is None
    assert judge.held_by == (None if f1 > 0.5 or goes_on else "A")


def test_a_stage_that_is_doomed_hears_stop_and_nothing_else() -> None:
    """Though its end had come in with the alarm, and its criteria would have failed."""
    judge = monitor()
    judge.receive(stage(0, "A", 0.0, broken_at=150))
    assert judge.command() == (Abort(last_good_step=149),)
    judge.receive([Ended(STEPS, 1.0, None)])
    assert judge.command() is None
    findings, _ = judge_loss(judge)
    assert [(f.id, f.status) for f in findings] == [("finite[A]", "fail")]


def test_levels_are_not_compared_across_stages() -> None:
    """A second stage ten times as high is a new start; each has its findings, under its own name."""
    judge = monitor()
    judge.receive(stage(0, "A", 0.9))
    assert judge.command() == (Continue(),)
    judge.receive(stage(STEPS, "B", 0.9, level=10.0))
    judge.receive([Ended(2 * STEPS, 2.0, None)])
    assert judge.command() == (None,)
    loss, _ = judge_loss(judge)
    assert [f.id for f in loss] == ["finite[A]", "loss-trend[A]", "finite[B]", "loss-trend[B]"]
    assert {f.status for f in loss} <= {"pass", "warn"}, [f.text for f in loss]
    assert [(f.id, f.status) for f in judge_rest(judge)] == [
        ("updates[A]", "pass"),
        ("stage[A]", "pass"),
        ("updates[B]", "pass"),
    ]


def test_a_stages_criteria_count_its_own_steps() -> None:
    """`by step N` and `over steps` in stage B start where B does."""
    found: dict[str, Any] = {}
    for criterion in ("f1 > 0.5 by step 199", "first(loss over steps 0-0) > 9", "loss < 20 over stage B"):
        data = {
            "task": "a:B",
            "full": {"batch_size": 8, "learning_rate": 0.1},
            "smoke": {},
            "stages": [
                {"name": "A", "full_steps": 2000, "steps": STEPS},
                {"name": "B", "full_steps": 3000, "steps": STEPS, "accept": [criterion]},
            ],
        }
        case = Case(path="a.smoke.yaml", recipe=Recipe.model_validate(data), mode="constant")
        judge = RunMonitor(case, early_stop=True)
        judge.receive([*stage(0, "A", 0.0), *stage(STEPS, "B", 0.9, level=10.0), Ended(2 * STEPS, 2.0, None)])
        (found[criterion],) = [finding for finding in judge_rest(judge) if finding.id == "stage[B]"]
    assert {finding.status for finding in found.values()} == {"pass"}, found
    assert "its step 0 is step 200" in found["f1 > 0.5 by step 199"].text


def geometries(stage: str, step: int, difference: float) -> BatchEquivalence:
    return BatchEquivalence(step=step, stage=stage, samples=16, smoke=8, full=16, batch_norm=0, difference=difference)


@pytest.mark.parametrize("early_stop", [True, False])
def test_a_stage_of_another_geometry_is_stopped_where_it_begins(early_stop: bool) -> None:
    """And what was right with the stage before it stays right."""
    case = monitor().case
    judge = RunMonitor(case, early_stop=early_stop)
    judge.receive([geometries("A", 0, 1e-7), *stage(0, "A", 1.0)])
    assert judge.command() == (Continue(),)
    judge.receive([geometries("B", STEPS, 0.3), *stage(STEPS, "B", 1.0, level=0.5)[:20]])
    assert judge.command() == ((Abort(last_good_step=None),) if early_stop else None)
    assert judge.decided_by == "the size of its micro-batches"
    assert [(f.id, f.status) for f in judge.fairness.values()] == [
        ("accumulation[A]", "pass"),
        ("accumulation[B]", "fail"),
    ]
    assert judge.steps == (STEPS if early_stop else STEPS + 20)
