"""The `batch-drawn` check: a step has as many samples as the recipe declares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_smoke.events import BatchSizes
from pytest_smoke.judge.checks.check import Check, Reason, RunView
from pytest_smoke.outcome import Finding
from pytest_smoke.text import count


def on_sizes(run: RunView, events: Sequence[BatchSizes]) -> Iterator[Finding]:
    """Judge the newest count; every stage has one."""
    event, settings = events[-1], run.case.settings
    geometry = (settings.batch_size, settings.grad_accum_steps, settings.world_size)
    yield batch_drawn(event, geometry, finding_id=f"{CHECK.id}[{event.stage}]" if event.stage else CHECK.id)


def batch_drawn(event: BatchSizes, geometry: tuple[int, int, int], *, finding_id: str = "batch-drawn") -> Finding:
    """Compare the samples per step with those declared: batch size x accumulation x world size, `geometry`."""
    if event.problem:
        text = f"the samples in a batch cannot be counted: {event.problem}"
        return Finding(id=finding_id, status="pass", text=text)
    size = geometry[0]
    if event.samples != event.declared:
        fewer = event.samples < event.declared
        since = f"from step {event.first_step} on " if event.steps > event.steps_off else ""
        return Finding(
            id=finding_id,
            status="fail",
            reason="fewer-samples" if fewer else "more-samples",
            text=(
                f"{since}a step draws {count(event.samples, 'sample')} instead of {event.declared:,} "
                f"({' x '.join(f'{factor:,}' for factor in geometry)}): batches({size}) yields {event.micro_batch:,}"
            ),
            step=event.first_step,
            observed=event.samples,
            bound=event.declared,
            hint=(
                "let batches() yield as many samples as it is asked for, on each rank and at each accumulation step"
                if fewer
                else "let batches() yield as many samples as it is asked for; if a sample has several rows, return the "
                "number of samples from sources(batch)"
            ),
        )
    if event.steps_off:
        return Finding(
            id=finding_id,
            status="warn",
            reason="uneven-batches",
            text=(
                f"{event.steps_off:,} of {count(event.steps, 'step')} did not have {event.declared:,} samples: "
                f"batches({size}) sometimes yields {event.micro_batch:,}"
            ),
            observed=event.steps_off,
            bound=0,
            hint="drop the last batch of an epoch if it is short (`drop_last=True` of a DataLoader)",
        )
    text = f"each of {count(event.steps, 'step')} drew {count(event.declared, 'sample')}"
    return Finding(id=finding_id, status="pass", text=text, observed=event.declared, bound=event.declared)


CHECK = Check(
    id="batch-drawn",
    question="Does each step draw as many samples as the recipe declares?",
    when="first steps",
    verdict="invalid",
    key="full.batch_size",
    stops_run=True,
    reasons=(
        Reason(id="fewer-samples", status="fail", when="steps in a row draw fewer samples than declared"),
        Reason(id="more-samples", status="fail", when="steps in a row draw more samples than declared"),
        Reason(id="uneven-batches", status="warn", when="single steps draw another number of samples"),
    ),
    on_event=(BatchSizes, on_sizes),
)
