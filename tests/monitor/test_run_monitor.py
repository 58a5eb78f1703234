"""The run monitor: its commands to the training process and its findings, in whatever chunks events arrive."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.events import (
    Abort,
    BatchEquivalence,
    Command,
    Continue,
    EndAfterStage,
    Ended,
    Event,
    Finish,
    Gradients,
    Metrics,
    StageEnded,
    Step,
    Updates,
)
from pytest_smoke.monitor.run_monitor import RunMonitor
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Recipe

STEPS = 200
UPDATED = Updates(unchanged=(), without_gradient=(), outside_optimizer=(), checked=2)


def staged(*, continue_on_fail: bool = False, accept_a: str = "f1 > 0.5", accept_b: Sequence[str] = ()) -> Case:
    """Return a case with the stages A, which has a criterion, and B."""
    a = {
        "name": "A",
        "full_steps": 2000,
        "steps": STEPS,
        "accept": [accept_a],
        "continue_on_fail": continue_on_fail,
    }
    b = {"name": "B", "full_steps": 3000, "steps": STEPS, "accept": list(accept_b)}
    data = {"task": "a:B", "full": {"batch_size": 8, "learning_rate": 0.1}, "smoke": {}, "stages": [a, b]}
    return Case(path="a.smoke.yaml", recipe=Recipe.model_validate(data), mode="constant")


def unstaged() -> Case:
    """Return a case with one stage without a name."""
    full = {"batch_size": 8, "learning_rate": 0.1, "max_steps": 2000}
    data = {"task": "a:B", "full": full, "smoke": {"max_steps": STEPS}}
    return Case(path="a.smoke.yaml", recipe=Recipe.model_validate(data), mode="constant")


def monitor_of(case: Case, *, early_stop: bool = True) -> RunMonitor:
    return RunMonitor(case, early_stop=early_stop)


def steps_of(first: int, stage: str, *, level: float = 1.0, broken_at: int | None = None) -> list[Event]:
    """Return the steps of a stage whose loss falls."""
    loss = [level - n / 1000 + (n % 7) / 2000 for n in range(STEPS)]
    if broken_at is not None:
        loss[broken_at] = float("nan")
    return [
        Step(step=first + n, loss=value, terms={"ce": value}, grad_norm=1.0, lr=0.1, stage=stage)
        for n, value in enumerate(loss)
    ]


def stage_of(first: int, name: str, f1: float, **options: Any) -> list[Event]:
    """Return all that a training process reports about a stage: its steps, its metrics, its end."""
    return [
        *steps_of(first, name, **options),
        Metrics(first + STEPS - 1, {"f1": f1}),
        UPDATED,
        StageEnded(name, 1.0),
    ]


def after(monitor: RunMonitor, *events: Event) -> Command | None:
    """Return the command after these events."""
    monitor.on_events(events)
    return monitor.take_command()


def all_findings(monitor: RunMonitor) -> list[Finding]:
    return [*monitor.early_findings.values(), *monitor.judge_loss(), *monitor.registry.at_end(monitor)]


# commands


@given(f1=st.floats(0, 1), continue_on_fail=st.booleans(), cuts=st.lists(st.integers(0, STEPS + 3), max_size=5))
def test_each_stage_ends_with_one_command_in_whatever_chunks_events_arrive(
    f1: float, continue_on_fail: bool, cuts: list[int]
) -> None:
    """Continue, or EndAfterStage if a criterion failed and the stage has no `continue_on_fail`."""
    monitor, events = monitor_of(staged(continue_on_fail=continue_on_fail)), stage_of(0, "A", f1)
    commands = [after(monitor, *events[first:end]) for first, end in pairwise([0, *sorted(cuts), len(events)])]
    given = [command for command in commands if command is not None]
    assert given == [Continue() if f1 > 0.5 or continue_on_fail else EndAfterStage()]
    assert monitor.take_command() is None
    assert monitor.failed_stage == (None if f1 > 0.5 or continue_on_fail else "A")


def test_there_is_no_command_while_a_run_trains() -> None:
    monitor = monitor_of(unstaged())
    assert monitor.take_command() is None
    for event in steps_of(0, ""):
        assert after(monitor, event) is None


def test_a_run_that_ended_is_told_to_finish_once() -> None:
    monitor = monitor_of(unstaged())
    assert after(monitor, *steps_of(0, ""), UPDATED, Ended(STEPS, 1.0, None)) == Finish()
    assert monitor.take_command() is None
    assert monitor.complete


def test_an_unstable_run_is_told_to_abort_once_and_to_nothing_else() -> None:
    """Even if the end of its stage arrives together with the instability, and its criteria fail."""
    monitor = monitor_of(staged())
    assert after(monitor, *stage_of(0, "A", 0.0, broken_at=150)) == Abort(last_good_step=149)
    assert after(monitor, Ended(STEPS, 1.0, None)) is None
    assert not monitor.complete
    assert [(finding.id, finding.status) for finding in monitor.judge_loss()] == [
        ("finite[A]", "fail"),
        ("loss-trend[B]", "not-checked"),
    ]


def test_a_loss_that_is_not_finite_from_the_first_step_on_is_probed_at_the_initial_weights() -> None:
    assert after(monitor_of(unstaged()), *steps_of(0, "", broken_at=0)[:1]) == Abort(last_good_step=0)


def test_after_end_after_stage_there_is_no_further_command() -> None:
    monitor = monitor_of(staged())
    assert after(monitor, *stage_of(0, "A", 0.0)) == EndAfterStage()
    assert after(monitor, Ended(STEPS, 1.0, None)) is None


def test_without_early_stop_nothing_aborts_a_run() -> None:
    monitor = monitor_of(unstaged(), early_stop=False)
    assert after(monitor, *steps_of(0, "", broken_at=10)) is None
    assert after(monitor, Ended(STEPS, 1.0, None)) == Finish()


def test_only_the_postmortem_probe_is_kept_after_a_run_was_stopped() -> None:
    """How many steps a run still makes depends on timing, and the outcome must not."""
    monitor = monitor_of(unstaged())
    steps = steps_of(0, "", broken_at=20)
    monitor.on_events(steps)
    probe = Gradients(step=19, raw={"ce": 1.0}, weighted={"ce": 1.0}, cosines={}, postmortem=True)
    monitor.on_events([Metrics(50, {"f1": 1.0}), probe])
    assert monitor.steps == 21
    assert (dict(monitor.trace.metrics), monitor.trace.postmortem) == ({}, probe)


# findings


def test_levels_are_not_compared_across_stages() -> None:
    """A stage that starts ten times as high did not rise, and each stage has findings under its own name."""
    monitor = monitor_of(staged())
    assert after(monitor, *stage_of(0, "A", 0.9)) == Continue()
    assert after(monitor, *stage_of(STEPS, "B", 0.9, level=10.0)) is None
    assert after(monitor, Ended(2 * STEPS, 2.0, None)) == Finish()
    loss = monitor.judge_loss()
    assert [finding.id for finding in loss] == ["finite[A]", "loss-trend[A]", "finite[B]", "loss-trend[B]"]
    assert {finding.status for finding in loss} <= {"pass", "warn"}, [finding.text for finding in loss]
    assert [(finding.id, finding.status) for finding in monitor.registry.completed(all_findings(monitor))] == [
        ("lr-applied[A]", "pass"),
        ("finite[A]", "pass"),
        ("loss-trend[A]", "pass"),
        ("lr-applied[B]", "pass"),
        ("finite[B]", "pass"),
        ("loss-trend[B]", "warn"),  # a fall from 10 to 9.8 is within its noise
        ("learning[A]", "pass"),
        ("updates[A]", "pass"),
        ("stage[A]", "pass"),
        ("learning[B]", "pass"),
        ("updates[B]", "pass"),
    ]


@pytest.mark.parametrize(
    "criterion", ["f1 > 0.5 by step 199", "first(loss over steps 0-0) > 9", "loss < 20 over stage B"]
)
def test_a_stages_criteria_count_its_own_steps(criterion: str) -> None:
    """`by step N` and `over steps` in stage B start where B does."""
    monitor = monitor_of(staged(accept_a="loss < 99", accept_b=[criterion]))
    monitor.on_events([*stage_of(0, "A", 0.0), *stage_of(STEPS, "B", 0.9, level=10.0), Ended(2 * STEPS, 2.0, None)])
    (finding,) = [finding for finding in all_findings(monitor) if finding.id == "stage[B]"]
    assert finding.status == "pass", finding.text
    assert "(steps counted from step 200)" in finding.text


def test_a_stage_that_did_not_start_has_its_checks_not_made() -> None:
    monitor = monitor_of(staged(accept_b=["f1 > 0.5"]))
    monitor.on_events([*stage_of(0, "A", 0.0), Ended(STEPS, 1.0, None)])
    findings = {finding.id: finding for finding in all_findings(monitor)}
    for id_ in ("loss-trend[B]", "updates[B]", "stage[B]"):
        assert (findings[id_].status, findings[id_].reason) == ("not-checked", "earlier-stage-failed")
        assert findings[id_].text == "not checked: stage A failed its criteria, so the run ended there"
    assert findings["stage[A]"].text.endswith(". Stage B did not start")


def equivalence(stage: str, step: int, difference: float) -> BatchEquivalence:
    return BatchEquivalence(
        step=step,
        stage=stage,
        samples=16,
        smoke_batch_size=8,
        full_batch_size=16,
        batch_norm_layers=0,
        difference=difference,
    )


@pytest.mark.parametrize("early_stop", [True, False])
def test_a_stage_whose_gradient_depends_on_the_split_is_stopped_at_its_start(early_stop: bool) -> None:
    """The stage before it keeps its finding."""
    monitor = monitor_of(staged(), early_stop=early_stop)
    assert after(monitor, equivalence("A", 0, 1e-7), *stage_of(0, "A", 1.0)) == Continue()
    command = after(monitor, equivalence("B", STEPS, 0.3), *stage_of(STEPS, "B", 1.0, level=0.5)[:20])
    assert command == (Abort(last_good_step=None) if early_stop else None)
    assert monitor.stopped_because == "the check accumulation failed"
    assert [(finding.id, finding.status) for finding in monitor.early_findings.values()] == [
        ("accumulation[A]", "pass"),
        ("accumulation[B]", "fail"),
    ]
    assert monitor.steps == (STEPS if early_stop else STEPS + 20)
