"""The checks `batch-drawn` and `items-drawn`: steps have the declared samples, and as many items as in the full run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_smoke.events import BatchSizes, DrawnItems
from pytest_smoke.judge.checks.check import Check, Reason, RunView
from pytest_smoke.outcome import Finding
from pytest_smoke.text import count, listed, number

OTHER_ITEMS = 1.25
"""Ratio of the items per sample, smoke run to full run or reverse, from which the effective batch is another one."""
ERRORS = 8.0
"""Standard errors by which they then differ at least: chance does so once in 10,000 runs, in 8 pairs of means."""


FEWER = "let batches() yield as many samples as it is asked for, on each rank and at each accumulation step"
MORE = (
    "let batches() yield as many samples as it is asked for; if a sample has several rows, return the number of "
    "samples from sources(batch)"
)
OF_TRAINER = (
    "look for a data loader, a training step or a loss of its own that uses another batch size than the arguments say"
)


def on_sizes(run: RunView, events: Sequence[BatchSizes]) -> Iterator[Finding]:
    """Judge the newest count; every stage has one."""
    event, settings = events[-1], run.case.settings
    # The ranks of one process, if it reports its own samples.
    ranks = settings.world_size if event.rank is None else settings.world_size // run.case.recipe.processes
    geometry = (settings.batch_size, settings.grad_accum_steps, ranks)
    finding_id = f"{CHECK.id}[{event.stage}]" if event.stage else CHECK.id
    yield batch_drawn(event, geometry, finding_id=finding_id, is_task=run.case.recipe.trainer == "task")


def batch_drawn(
    event: BatchSizes, geometry: tuple[int, int, int], *, finding_id: str = "batch-drawn", is_task: bool = True
) -> Finding:
    """Compare the samples per step with those declared: batch size x accumulation x world size, `geometry`."""
    if event.problem:
        text = f"the samples in a batch cannot be counted: {event.problem}"
        return Finding(id=finding_id, status="pass", text=text)
    size = geometry[0]
    of_rank = "" if event.rank is None else f" of rank {event.rank}"
    if event.log_line:
        return _as_logged(event, geometry, finding_id)
    if event.samples != event.declared:
        fewer = event.samples < event.declared
        yields = f"batches({size}) yields" if is_task else "a micro-batch has"
        other = f"{yields} {event.micro_batch:,}"
        if event.micro_batch == size and not is_task:
            other = f"its micro-batches have {size:,}, but there are not {geometry[1] * geometry[2]:,} of them"
        since = f"from step {event.first_step} on " if event.steps > event.steps_off else ""
        return Finding(
            id=finding_id,
            status="fail",
            reason="fewer-samples" if fewer else "more-samples",
            text=(
                f"{since}a step{of_rank} draws {count(event.samples, 'sample')} instead of {event.declared:,} "
                f"({' x '.join(f'{factor:,}' for factor in geometry)}): {other}"
            ),
            step=event.first_step,
            observed=event.samples,
            bound=event.declared,
            hint=(FEWER if fewer else MORE) if is_task else OF_TRAINER,
        )
    if event.steps_off:
        is_short = event.micro_batch != size or is_task
        sometimes = f"batches({size}) sometimes yields" if is_task else "a micro-batch sometimes has"
        other = f"{sometimes} {event.micro_batch:,}" if is_short else "they had fewer micro-batches"
        return Finding(
            id=finding_id,
            status="warn",
            reason="uneven-batches",
            text=(
                f"{event.steps_off:,} of {count(event.steps, 'step')}{of_rank} did not have {event.declared:,} "
                f"samples: {other}"
            ),
            observed=event.steps_off,
            bound=0,
            hint="drop the last batch of an epoch if it is short (`drop_last=True` of a DataLoader)"
            if is_short
            else "make the batches of an epoch a multiple of the micro-batches of a step",
        )
    text = f"each of {count(event.steps, 'step')} drew {count(event.declared, 'sample')}"
    return Finding(id=finding_id, status="pass", text=text, observed=event.declared, bound=event.declared)


def items_drawn(run: RunView, events: Sequence[DrawnItems]) -> Iterator[Finding]:
    """Judge what `counts` returned in the first steps."""
    event = events[-1]
    window = f"the first {event.steps:,} steps" if event.steps > 1 else "the first step"
    other = {
        term: (smoke, full)
        for term, (smoke, full, error) in event.per_sample.items()
        if max(smoke, full) > OTHER_ITEMS * min(smoke, full) and abs(smoke - full) > ERRORS * error
    }
    if other:
        in_smoke, in_full = (
            listed(f"{number(rates[at])} items of {term}" for term, rates in other.items()) for at in range(2)
        )
        yield Finding(
            id=ITEMS.id,
            status="fail",
            reason="other-items-per-sample",
            text=(
                f"a sample of batches({event.smoke_batch_size}) has {in_smoke}, one of the full run's "
                f"batches({event.full_batch_size}) has {in_full}: their effective batches are not the same"
            ),
            step=0,
            observed=next(iter(other.values()))[0],
            bound=next(iter(other.values()))[1],
            hint="give the smoke run the full run's batch_size, or make the length of a sample independent of it",
        )
    elif event.changed:
        first, second = (number(value) for value in event.changed)
        yield Finding(
            id=ITEMS.id,
            status="warn",
            reason="counts-change",
            text=f"counts(batch) returned {first} and then {second} for the same micro-batch",
            observed=event.changed[1],
            bound=event.changed[0],
            hint="compute the number of items from the batch alone: it weights the micro-batches of a step",
        )
    elif event.empty:
        yield Finding(
            id=ITEMS.id,
            status="warn",
            reason="empty-micro-batches",
            text=(
                f"counts(batch) is 0 for {event.empty:,} of "
                f"{count(event.micro_batches, 'micro-batch', 'micro-batches')} in {window}: they train nothing"
            ),
            observed=event.empty,
            bound=0,
            hint="look at masks and truncation; the effective batch is smaller than the recipe says",
        )
    else:
        ranges = listed(_range(term, event.fewest[term], event.most[term]) for term in event.fewest)
        text = f"{'each of ' if event.steps > 1 else ''}{window} drew {ranges}"
        yield Finding(id=ITEMS.id, status="pass", text=text)


def _range(term: str, fewest: float, most: float) -> str:
    amount = f"{fewest:,.0f}" if fewest == most else f"{fewest:,.0f} to {most:,.0f}"
    return f"{amount} items of {term}"


def _as_logged(event: BatchSizes, geometry: tuple[int, int, int], finding_id: str) -> Finding:
    said = f"the log says {event.log_line!r}"
    declared = f"{event.declared:,} ({' x '.join(f'{factor:,}' for factor in geometry)})"
    if event.samples == event.declared:
        text = f"{said}, as the recipe declares: {declared}"
        return Finding(id=finding_id, status="pass", text=text, observed=event.samples, bound=event.declared)
    hint = "pass on {batch_size}, {grad_accum_steps} and {world_size}, as the command counts them"
    ranks = geometry[2]
    if ranks > 1 and event.samples * ranks == event.declared:
        hint += (
            f". Is {{batch_size}} split among the {ranks:,} processes, as by Accelerate with split_batches? If the log "
            "counts the samples of one process, let it print those of all"
        )
    elif ranks > 1 and event.samples == event.declared * ranks:
        hint += f". Each of the {ranks:,} processes draws the batch of all"
    return Finding(
        id=finding_id,
        status="fail",
        reason="fewer-samples" if event.samples < event.declared else "more-samples",
        text=f"{said}, the recipe declares {declared} samples in an optimizer step",
        step=event.first_step,
        observed=event.samples,
        bound=event.declared,
        hint=hint,
    )


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
ITEMS = Check(
    id="items-drawn",
    question="Does a sample have as many items, as `counts` tells them, as in the full run's micro-batches?",
    when="first steps",
    verdict="invalid",
    key="smoke.batch_size",
    stops_run=True,
    reasons=(
        Reason(
            id="other-items-per-sample",
            status="fail",
            when="samples of the smoke run's micro-batches have fewer or more items than those of the full run's",
        ),
        Reason(id="counts-change", status="warn", when="`counts` returns another number for the same micro-batch"),
        Reason(id="empty-micro-batches", status="warn", when="micro-batches have no items of any term"),
    ),
    on_event=(DrawnItems, items_drawn),
)
