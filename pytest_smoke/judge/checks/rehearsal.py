"""The checks `memory` and `overfit`: the largest batch fits, and a wiring run can learn one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite

from pytest_smoke.events import LargestBatch, Overfit
from pytest_smoke.judge.checks.check import Check, Reason, RunView
from pytest_smoke.outcome import Finding, Status
from pytest_smoke.text import number

SMALLEST_FALL = 1e-3
"""Share of its first value by which the loss of one repeated batch falls at least. Both losses are computed with the
same random numbers, so that only rounding moves a loss which does not learn."""


def memory(run: RunView, events: Sequence[LargestBatch]) -> Iterator[Finding]:
    """Judge the passes on the largest batch."""
    event = events[-1]
    if not event.reason:
        peak = f" within {event.peak_memory_gib:.1f} GiB" if event.peak_memory_gib is not None else ""
        text = f"the largest batch fits into memory: forward and backward pass ran{peak}"
        yield Finding(id=MEMORY.id, status="pass", text=text, observed=event.peak_memory_gib)
        return
    at = f" at {event.place}" if event.place else ""
    if event.reason == "out-of-memory":
        first_line = event.text.splitlines()[0]
        yield Finding(
            id=MEMORY.id,
            status="fail",
            reason="out-of-memory",
            text=f"the largest batch does not fit into memory: {first_line:.200}{at}",
            step=0,
            hint=(
                "halve batch_size and double grad_accum_steps in `full`, limit the length of a sample, or recompute "
                "activations in the backward pass"
            ),
        )
        return
    yield Finding(
        id=MEMORY.id,
        status="fail",
        reason="exception",
        text=f"the task failed on the largest batch: {event.text.splitlines()[0]:.200}{at}",
        step=0,
        hint="fix the exception, or limit the size of samples: a later step would have failed in the same way",
    )


def overfit(run: RunView, events: Sequence[Overfit]) -> Iterator[Finding]:
    """Judge the loss of one repeated batch."""
    event = events[-1]
    status: Status = "fail" if run.case.recipe.checks.overfit else "warn"
    if event.problem:
        text = f"one batch could not be trained on repeatedly: {event.problem.splitlines()[0]:.200}"
        yield Finding(id=OVERFIT.id, status=status, reason="not-overfitted", text=text)
        return
    before, after = number(event.before), number(event.after)
    if isfinite(event.after) and event.after <= event.before - SMALLEST_FALL * abs(event.before):
        text = f"the loss of one repeated batch fell from {before} to {after} in {event.updates} updates"
        yield Finding(id=OVERFIT.id, status="pass", text=text, observed=event.after, bound=event.before)
        return
    rate = run.case.settings.learning_rate
    yield Finding(
        id=OVERFIT.id,
        status=status,
        reason="loss-does-not-fall",
        text=f"the loss of one repeated batch did not fall in {event.updates} updates: {before} before, {after} after",
        observed=event.after if isfinite(event.after) else number(event.after),
        bound=event.before if isfinite(event.before) else number(event.before),
        hint=(
            "look for a detached loss, parameters that the optimizer does not hold, labels that do not belong to their "
            f"inputs, and a learning_rate ({rate:g}) that is too high or too low"
        ),
    )


MEMORY = Check(
    id="memory",
    question="Does the largest batch that the task can name (`largest_batch`) fit into memory?",
    when="first steps",
    verdict="error",
    key="full.batch_size",
    stops_run=True,
    reasons=(
        Reason(id="out-of-memory", status="fail", when="memory ran out in its forward or backward pass"),
        Reason(id="exception", status="fail", when="the task raised another exception on it"),
    ),
    on_event=(LargestBatch, memory),
)
OVERFIT = Check(
    id="overfit",
    needed=lambda case: case.recipe.checks.overfit and case.mode == "wiring",
    question="Does the loss of one repeated batch fall in a wiring run?",
    when="end",
    verdict="hold",
    key="checks.overfit",
    reasons=(
        Reason(id="loss-does-not-fall", status="warn", when="it does not fall"),
        Reason(id="loss-does-not-fall", status="fail", when="it does not fall, and `checks.overfit` is true"),
        Reason(id="not-overfitted", status="warn", when="the task raised an exception meanwhile"),
        Reason(id="not-overfitted", status="fail", when="it raised one, and `checks.overfit` is true"),
    ),
    on_event=(Overfit, overfit),
)
