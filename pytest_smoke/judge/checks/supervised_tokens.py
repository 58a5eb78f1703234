"""The `supervised-tokens` check: items and samples have labels that are not ignored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pytest_smoke.events import SupervisedItems
from pytest_smoke.judge.checks.check import Check, Reason, RunView
from pytest_smoke.outcome import Finding
from pytest_smoke.text import listed, percent

MIN_SAMPLES = 20
"""Samples from which a share of them is judged."""
NEAR_ZERO = 0.01
"""Share of labelled items below which nearly nothing is learned from a batch, padding included. Masked language models
label 15 % of the tokens, a reply to a long prompt some per cent."""
TRUNCATED = 0.05
"""Share of samples without any label from which it is not one that happens to have none."""


def supervised_tokens(run: RunView, events: Sequence[SupervisedItems]) -> Iterator[Finding]:
    """Judge the labels of the first steps, by source if the task tells the sources."""
    samples, empty, items, labelled = (
        _summed([getattr(event, figure) for event in events]) for figure in ("samples", "empty", "items", "labelled")
    )
    if samples[ALL] < MIN_SAMPLES or not items[ALL]:
        return
    groups = [ALL, *(source for source in samples if source not in (ALL, "") and len(samples) > 2)]
    judged = [source for source in groups if samples[source] >= MIN_SAMPLES and items[source]]
    shares = {_named(source): labelled[source] / items[source] for source in judged}
    shares |= {f" for the term {term}": share for term, share in _counted(events, items[ALL], samples[ALL]).items()}
    few = {name: share for name, share in shares.items() if share < NEAR_ZERO}
    if few:
        found = listed(f"{percent(share)}{name}" for name, share in few.items())
        yield Finding(
            id=CHECK.id,
            status="warn",
            reason="few-labels",
            text=f"hardly any item has a label: {found} in {_window(events)}",
            observed=min(few.values()),
            bound=NEAR_ZERO,
            hint="look at the masking of prompts and padding, at truncation, and at the ignored label (-100)",
        )
        return
    cut = [source for source in judged if empty[source] >= max(2, TRUNCATED * samples[source])]
    if cut:
        found = listed(f"{empty[source]:,} of {samples[source]:,}{_named(source)}" for source in cut)
        yield Finding(
            id=CHECK.id,
            status="warn",
            reason="samples-without-label",
            text=f"samples without any label: {found} in {_window(events)}. They train nothing",
            observed=max(empty[source] / samples[source] for source in cut),
            bound=TRUNCATED,
            hint="a prompt longer than the maximum length leaves no room for its answer: truncate the prompt instead",
        )
        return
    text = f"{percent(labelled[ALL] / items[ALL])} of the items in {_window(events)} have a label"
    yield Finding(id=CHECK.id, status="pass", text=text)


ALL = "*"
"""Stands for all sources together."""


def _summed(by_source: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Add up the figures of some steps, by source and for all."""
    total = Counter[str]()
    for figures in by_source:
        total.update(figures)
    return {ALL: sum(total.values()), **total}


def _counted(events: Sequence[SupervisedItems], items: int, samples: int) -> dict[str, float]:
    """Return the share of items that each term is a mean over, where `counts` tells them.

    A count that is at most the number of samples is not one of items: it is the default, or one label per sample.
    """
    terms = dict.fromkeys(term for event in events for term in event.counts)
    counted = {term: sum(event.counts.get(term, 0.0) for event in events) for term in terms}
    return {term: count / items for term, count in counted.items() if count > samples}


def _named(source: str) -> str:
    return f" of source {source!r}" if source != ALL else ""


def _window(events: Sequence[SupervisedItems]) -> str:
    return f"the first {len(events):,} steps" if len(events) > 1 else "the first step"


CHECK = Check(
    id="supervised-tokens",
    question="Do the items and the samples of the first steps have labels?",
    when="first steps",
    verdict=None,
    key="task",
    reasons=(
        Reason(id="few-labels", status="warn", when="nearly all items of the run or of a source have no label"),
        Reason(id="samples-without-label", status="warn", when="samples have no label at all"),
    ),
    on_event=(SupervisedItems, supervised_tokens),
)
