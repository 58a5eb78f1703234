"""From logged points to steps: where a log starts, how often it has a point, when it is complete."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.events import LogSpacing
from pytest_smoke.logs.log import Point
from pytest_smoke.monitor.command.log_steps import LoggedRun, logged_run, rate_difference
from pytest_smoke.recipe.stages import Stage


def run_of(steps: list[int], run_steps: int, **options: int) -> LoggedRun:
    run = logged_run([Point(step, 1.0) for step in steps], run_steps, is_complete=True, **options)
    assert run is not None
    return run


@given(
    run_steps=st.integers(1, 300),
    every=st.integers(1, 50),
    first_step=st.sampled_from((0, 1)),
    logs_first=st.booleans(),
    data=st.data(),
)
def test_a_log_is_complete_with_its_planned_points_and_with_no_fewer(
    run_steps: int, every: int, first_step: int, logs_first: bool, data: st.DataObject
) -> None:
    labels = [step for step in range(first_step, run_steps + first_step) if step % every == 0]
    if logs_first and first_step:
        labels = sorted({1, *labels})
    if len(labels) < 2:
        return
    whole = run_of(labels, run_steps)
    assert whole.spacing.first_step == first_step
    assert (whole.spacing.planned_points, whole.made_steps, whole.beyond) == (len(labels), run_steps, None)
    cut = data.draw(st.integers(3, len(labels)), label="points") if len(labels) > 3 else len(labels)
    part = run_of(labels[:cut], run_steps)
    assert (part.made_steps == run_steps) == (cut == len(labels))
    assert part.spacing == whole.spacing


def test_points_after_the_last_planned_step_are_left_out() -> None:
    run = run_of([0, 10, 20, 30], 20)  # some loops also log the step after the last one
    assert ([row.step for row in run.steps], run.beyond) == ([0, 10], 20)
    assert run.made_steps == 20


def test_too_few_points_do_not_tell_how_often_there_is_one() -> None:
    assert logged_run([Point(1, 1.0), Point(10, 1.0)], 100) is None
    run = logged_run([Point(1, 1.0), Point(10, 1.0), Point(20, 1.0)], 100)
    assert run is not None
    assert run.spacing == LogSpacing(first_step=1, every_steps=10, planned_points=11)


def test_micro_batches_are_averaged_to_optimizer_steps() -> None:
    points = [Point(step, float(step), lr=0.1) for step in range(1, 13)]
    run = logged_run(points, 3, micro_batches=4, is_complete=True)
    assert run is not None
    assert [(row.step, row.loss) for row in run.steps] == [(1, 2.5), (2, 6.5), (3, 10.5)]
    assert run.made_steps == 3
    growing = logged_run(points[:-1], 3, micro_batches=4)
    assert growing is None  # two whole steps, and one that may get more


STAGE = Stage(steps=100, learning_rate=3.4e-4, warmup_steps=10, max_steps=100)


def test_a_rounded_rate_is_the_scheduled_one() -> None:
    for form in ("{:.0e}", "{:.1e}", "{:.4f}", "{:.6f}", "{!r}"):
        rates = [(step, float(form.format(3.4e-4 * min(1.0, (step + 1) / 11)))) for step in range(100)]
        assert rate_difference(rates, STAGE, 0) is None, form


def test_a_rate_beside_the_schedule_is_reported_at_its_first_step_after_the_warmup() -> None:
    for factor in (0.5, 0.95, 1.05, 2.0):
        rates = [(step, 3.4e-4 * factor) for step in range(1, 101)]
        difference = rate_difference(rates, STAGE, 1)
        assert difference is not None, factor
        assert difference.step == (1 if factor > 1 else 13)
        assert (difference.scheduled, difference.used) == (
            3.4e-4 * (0.0 if factor > 1 else 1.0),
            3.4e-4 * factor,
        )


def test_a_warmup_may_have_any_form_but_not_end_early() -> None:
    forms = (lambda x: x, math.sqrt, lambda x: math.sin(x * math.pi / 2), lambda x: x * x)
    texts = ("{:.0e}", "{:.1e}", "{:.4f}", "{!r}")
    for warmup, peak, form, text in itertools.product(
        (1, 2, 3, 4, 10, 37, 200), (1e-2, 2e-2, 3.4e-4, 9e-4), forms, texts
    ):
        stage = Stage(steps=400, learning_rate=peak, warmup_steps=warmup, max_steps=400, lr_schedule="constant")
        for first in (0, 1):  # formulas that count from 0 and from 1
            rates = [(at, float(text.format(peak * form(min(1.0, (at + first) / warmup))))) for at in range(400)]
            if text != "{:.4f}" or peak >= 1e-2:
                assert rate_difference(rates, stage, 0) is None, (warmup, peak, text, first)
        if warmup >= 37 and text in ("{:.1e}", "{!r}"):
            twice = [(at, float(text.format(peak * min(1.0, 2 * (at + 1) / warmup)))) for at in range(400)]
            difference = rate_difference(twice, stage, 0)
            assert difference is not None, (warmup, peak, text)
            assert warmup / 2 - 3 <= difference.step <= warmup / 2


def test_a_cosine_may_end_above_zero_but_not_below_the_recipes() -> None:
    stage = Stage(steps=3000, learning_rate=1.0, warmup_steps=0, max_steps=10_000, lr_schedule="cosine")
    assert rate_difference([(2999, 0.85)], stage, 0) is None
    assert rate_difference([(2999, 0.5)], stage, 0) is not None
    assert rate_difference([(2999, 1.2)], stage, 0) is not None
