"""The `accumulation` check: one batch has the same gradient in the smoke run's micro-batches and in the full run's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pytest_smoke.events import BatchEquivalence
from pytest_smoke.judge.checks.check import Check, Reason, RunView
from pytest_smoke.outcome import Finding
from pytest_smoke.text import count, listed, number, percent

TOLERANCE = 0.01
"""Largest difference of the two gradients, relative to their norm."""
HALF_TOLERANCE = 0.05
"""The same where gradients are rounded to 16 bits: plain means were seen to differ by up to 1.05 % in bf16."""
ROUNDING = 1e-4
"""Rounding makes equal means in fp32 differ by 1e-6; a larger difference than this one has another cause."""
TERM_TOLERANCE = 0.05
"""Largest difference of a loss term's two means, relative to the full run's: beyond it the loss is another one, even if
its gradient is small early in training. Load-balancing losses of mixtures of experts were seen to differ by 1.5 %."""
NEGLIGIBLE = 1e-4
"""A term's weighted difference below this share of the whole loss is ignored: it may be rounding around 0."""
SPLITTABLE = "let batches() yield tensors or arrays, or dicts, lists, tuples or dataclasses of them"
"""Hint for a batch of another type."""
STATUSES = ("fail", "warn", "pass")


def split_batches(run: RunView, events: Sequence[BatchEquivalence]) -> Iterator[Finding]:
    """Make the check of a run."""
    yield from accumulation(events, world_size=run.case.settings.world_size)


def accumulation(events: Sequence[BatchEquivalence], *, world_size: int = 1) -> list[Finding]:
    """Return one finding per stage: the worst of its phases."""
    worst: dict[str, Finding] = {}
    for event in events:
        finding = _finding(event, world_size)
        known = worst.setdefault(finding.id, finding)
        worst[finding.id] = min(known, finding, key=lambda each: STATUSES.index(each.status))
    return list(worst.values())


def _finding(event: BatchEquivalence, world_size: int) -> Finding:
    reason, text, hint = _summed(event, world_size) if event.summed else _message(event)
    row = CHECK.reason(reason)
    where = f"stage {event.stage}" + (f", phase {event.phase}" if event.phase else "") if event.stage else ""
    return Finding(
        id=f"{CHECK.id}[{event.stage}]" if event.stage else CHECK.id,
        status=row.status if row else "pass",
        reason=reason,
        text=f"{where}: {text}" if where else text,
        step=event.step,
        observed=event.difference if math.isfinite(event.difference) else None,
        bound=_tolerance(event),
        hint=hint,
        data={"smoke_terms": dict(event.smoke_terms), "full_terms": dict(event.full_terms)},
    )


def _summed(event: BatchEquivalence, world_size: int) -> tuple[str, str, str]:
    """Return reason, sentence and hint where the gradients of micro-batches are added up.

    Ranks average their gradients, so a smoke run that accumulates the micro-batches of all ranks is another run.
    """
    text = (
        "the gradients of accumulated micro-batches are added up instead of averaged: two halves of a batch have twice "
        "the gradient of the whole"
    )
    hint = (
        "divide the loss of a micro-batch by the number of micro-batches of a step, or by `num_items_in_batch` if "
        "compute_loss is given it"
    )
    if world_size == 1:
        return "summed-micro-batches", f"{text}. The full run has the same error", hint
    ranks = f"{world_size:,} ranks average theirs"
    return "gradients-added-up", f"{text}. The full run's {ranks}, so its gradient is another one", hint


def _message(event: BatchEquivalence) -> tuple[str, str, str]:
    """Return reason (empty if nothing is wrong), sentence and hint."""
    if event.halves:
        return _message_of_halves(event)
    sizes = f"micro-batches of {event.smoke_batch_size} (smoke run) and {event.full_batch_size} (full run)"
    if event.batch_size_ignored:
        few, many = sorted((event.smoke_batch_size, event.full_batch_size))
        text = f"batches({few}) yields as many samples as batches({many}): the effective batch is not the declared one"
        return "batch-size-ignored", text, "let batches() yield as many samples as it is asked for"
    if problem := event.problem or _not_finite(event):
        hint = SPLITTABLE if "cannot be split" in problem else ""
        return "not-compared", f"{sizes} could not be compared: {problem}", hint
    differs = f"differs by {percent(event.difference)} of its norm"
    moved = ", ".join(_moved_terms(event, TOLERANCE))
    if event.difference > _tolerance(event):
        text = f"splitting the batch changes the gradient: with {sizes} it {differs}{moved and f'; {moved}'}"
        return "gradient-depends-on-split", text, _hint(event)
    if moved := ", ".join(_moved_terms(event, TERM_TOLERANCE)):
        text = f"splitting the batch changes the loss: with {sizes}, {moved}. The gradient {differs}"
        return "gradient-depends-on-split", text, _hint(event)
    if event.difference > ROUNDING and not event.half_precision:
        text = (
            f"splitting the batch slightly changes the gradient: with {sizes} it {differs}, more than rounding explains"
        )
        return "close-to-limit", text, _hint(event)
    text = f"splitting the batch keeps the gradient: with {sizes} it {differs}"
    if not event.batch_norm_layers:
        return "", text, ""
    layers = count(event.batch_norm_layers, "batch-norm layer")
    verb = "computes" if event.batch_norm_layers == 1 else "compute"
    statistics = f"{layers} {verb} statistics over {event.smoke_batch_size} samples"
    return "batch-norm", f"{text}. But {statistics}, not over {event.full_batch_size}", ""


def _message_of_halves(event: BatchEquivalence) -> tuple[str, str, str]:
    """Return reason, sentence and hint where both runs have the same micro-batches."""
    half, whole = event.smoke_batch_size, event.full_batch_size
    if problem := event.problem:
        return "not-split", f"both runs have the same micro-batches, which were not split: {problem}", ""
    if event.uneven:
        terms, are = listed(event.uneven), "is a mean" if len(event.uneven) == 1 else "are means"
        shares = listed(f"{percent(share)} of the items of {term}" for term, share in event.uneven.items())
        text = (
            f"{terms} {are} over items whose number varies, but accumulation gives all micro-batches the same weight: "
            f"{half} of {whole} samples hold {shares}. The full run has the same error"
        )
        hint = "return the number of items that each term is a mean over, such as tokens without padding, from counts"
        return "uneven-micro-batches", text, f"{hint}; what it returns now differs" if event.has_counts else hint
    if event.difference > _tolerance(event):
        text = (
            "a loss term sums over a micro-batch or compares its samples, and both runs have the same micro-batches: "
            f"split into {half} and {half}, the gradient of {whole} samples differs by {percent(event.difference)}"
        )
        return "", text, ""
    return "", f"splitting the batch keeps the gradient: {whole} samples whole and split into {half} and {half}", ""


def _hint(event: BatchEquivalence) -> str:
    norm = ", and so does batch norm" if event.batch_norm_layers else ""
    return (
        "if a loss term is a mean over items whose number varies, such as tokens, return their number from "
        "counts(batch). A term that is a sum, or that compares the samples of a micro-batch, needs the full run's "
        f"batch_size ({event.full_batch_size}){norm}"
    )


def _tolerance(event: BatchEquivalence) -> float:
    return HALF_TOLERANCE if event.half_precision else TOLERANCE


def _moved_terms(event: BatchEquivalence, tolerance: float) -> Iterator[str]:
    """Describe the terms whose two means differ by more than `tolerance`; a term of weight 0 does not train."""
    whole = sum(abs(event.weights[term] * full) for term, full in event.full_terms.items())
    for term, full in event.full_terms.items():
        smoke = event.smoke_terms[term]
        difference = abs(smoke - full)
        if difference > tolerance * abs(full) and abs(event.weights[term]) * difference > NEGLIGIBLE * whole:
            yield f"{term} is {number(smoke)} instead of {number(full)}"


def _not_finite(event: BatchEquivalence) -> str:
    """Say why two values cannot be compared; empty if they can."""
    terms = [*event.smoke_terms.items(), *event.full_terms.items()]
    if broken := next((f"{term} is {number(value)}" for term, value in terms if not math.isfinite(value)), ""):
        return broken
    if math.isnan(event.difference):
        return "both gradients are zero, or not finite"
    return "" if math.isfinite(event.difference) else "a gradient is not finite"


CHECK = Check(
    id="accumulation",
    question="Does a batch have the same gradient in the smoke run's and the full run's micro-batches, or in halves?",
    when="first steps",
    verdict="invalid",
    key="smoke.batch_size",
    stops_run=True,
    reasons=(
        Reason(id="gradient-depends-on-split", status="fail", when="gradient or loss change with the micro-batch size"),
        Reason(id="batch-size-ignored", status="fail", when="`batches` ignores the batch size it is asked for"),
        Reason(id="not-compared", status="warn", when="the two sizes of micro-batches could not be compared"),
        Reason(id="close-to-limit", status="warn", when="the gradients differ by more than rounding, within tolerance"),
        Reason(
            id="uneven-micro-batches",
            status="warn",
            when="accumulated micro-batches have different numbers of items, and `counts` does not tell them",
        ),
        Reason(
            id="summed-micro-batches",
            status="warn",
            when="a trainer adds up the gradients of accumulated micro-batches instead of averaging them",
        ),
        Reason(
            id="gradients-added-up",
            status="fail",
            when="the same, where the micro-batches of several ranks are accumulated, whose gradients are averaged",
        ),
        Reason(id="not-split", status="pass", when="both runs have the same micro-batches, which cannot be split"),
        Reason(id="batch-norm", status="warn", when="batch norm computes its statistics per micro-batch"),
    ),
    on_event=(BatchEquivalence, split_batches),
)
