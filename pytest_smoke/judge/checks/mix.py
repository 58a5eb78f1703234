"""The checks `mix` and `mix-drawn`: the data mix that a recipe declares, and the one that its sampler really drew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from pytest_smoke.errors import CorpusError
from pytest_smoke.events import SourceCounts
from pytest_smoke.judge.checks.check import Check, Reason, RunView
from pytest_smoke.mix.audit import MixFault, MixIntent, PlainMix, audit, shares_text
from pytest_smoke.mix.corpus import Corpus, count_corpus
from pytest_smoke.mix.samples import SampledCounts, audit_samples
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import MixSpec
from pytest_smoke.text import count, listed

MIX_HINTS = {
    "source-without-rows": "remove the source from mix.sources, or set its weight to 0",
    "unknown-source": "add the source to mix.sources, with weight 0 if it must not be sampled",
    "share-off-target": "change the weights in mix.sources",
    **dict.fromkeys(
        ("dominant-source", "leading-source"),
        "change the weights in mix.sources; if the mix is intended, increase mix.dominant_share or mix.lead_ratio",
    ),
}
"""Hint by reason."""
MORE_SAMPLES = "run more steps, so that more samples are counted, or increase mix.tolerance"
"""Hint of `too-few-samples`."""
SHARE_REASONS = ("share-off-target", "dominant-source", "leading-source")
"""Reasons whose sentence is followed by all shares."""


def corpus_of(mix: MixSpec) -> Corpus:
    """Count the corpus that the mix names, or take the rows it states. Raises CorpusError."""
    if mix.corpus is not None:
        return count_corpus(Path(mix.corpus))
    return Corpus(counts={name: source.rows or 0 for name, source in mix.sources.items()}, unit="rows")


def stale_rows(mix: MixSpec, corpus: Corpus) -> list[str]:
    """Describe each source whose stated rows differ from the counted ones, which are used instead."""
    if corpus.unit != "rows":
        return []
    return [
        f"source {name!r} has {count(corpus.counts.get(name, 0), 'row')}, the recipe states {source.rows:,}"
        for name, source in mix.sources.items()
        if source.rows is not None and source.rows != corpus.counts.get(name, 0)
    ]


def _counted_rows(mix: MixSpec, corpus: Corpus) -> list[str]:
    """Return the key and the counted rows of each source whose stated rows differ."""
    return [
        f"mix.sources.{name}.rows to {corpus.counts.get(name, 0)}"
        for name, source in mix.sources.items()
        if source.rows is not None and source.rows != corpus.counts.get(name, 0)
    ]


def declared_mix(case: Case) -> Iterator[Finding]:
    """Check that intended shares are met, that no source dominates, and that every source of the corpus is named."""
    if case.recipe.mix is not None:
        _audited.cache_clear()  # the corpus may have changed since another run counted it
        yield _audited(case.recipe.mix.model_dump_json())


@lru_cache(maxsize=1)
def _audited(mix: str) -> Finding:
    """Count the corpus of a mix once per run: a large one takes longer to count than all other checks together."""
    return audit_mix(MixSpec.model_validate_json(mix))


def audit_mix(mix: MixSpec) -> Finding:
    """Return the finding of `mix` for one recipe's mix."""
    try:
        corpus = corpus_of(mix)
    except CorpusError as error:
        return Finding(
            id=MIX.id, status="fail", reason="corpus-unreadable", text=f"the corpus cannot be counted: {error}"
        )
    found = audit(corpus.counts, mix, unit=corpus.unit)
    if not found.faults:
        stale = stale_rows(mix, corpus)
        return Finding(
            id=MIX.id,
            status="warn" if stale else "pass",
            reason="stale-row-count" if stale else "",
            text="; ".join([*stale, f"estimated mix: {found.table}"]),
            hint=f"set {listed(_counted_rows(mix, corpus))}" if stale else "",
            data={"shares": found.shares},
        )
    reason = found.faults[0].reason
    texts = [fault.text for fault in found.faults]
    return Finding(
        id=MIX.id,
        status="fail",
        reason=reason,
        text="; ".join([*texts, f"all shares: {found.table}"] if reason in SHARE_REASONS else texts),
        observed=found.shares,
        hint=MIX_HINTS[reason],
        data={"shares": found.shares},
    )


def sampled_mix(run: RunView, counts: Sequence[SourceCounts]) -> Iterator[Finding]:
    """Compare the samples that the run drew with the mix that the recipe declares."""
    mix = run.case.recipe.mix
    shares = _audited(mix.model_dump_json()).data.get("shares") if mix is not None else None
    yield mix_drawn(counts[-1], shares, mix, step=counts[-1].step)


def mix_drawn(
    seen: SampledCounts, expected: Mapping[str, float] | None, mix: MixIntent | None, *, step: int
) -> Finding:
    """Fail if a source's sampled share differs from the expected one by more than the tolerance and than chance.

    `expected` and `mix` are None for a recipe without `mix`; a source that dominates is then a warning. `step` is the
    last one whose samples were counted.
    """
    found = audit_samples(seen, expected, mix or PlainMix(sources={}))
    table = shares_text(found.shares)
    sampled = f"sampled in the first {count(step + 1, 'step')} ({count(seen.samples, 'sample')}): {table}"
    faults = found.faults or found.warnings
    return Finding(
        id=MIX_DRAWN.id,
        status="fail" if found.faults else "warn" if found.warnings else "pass",
        reason=faults[0].reason if faults else "",
        text=(
            f"{_sources_text(found.faults)}; all shares: {table}"
            if found.faults
            else "; ".join(fault.text for fault in faults) or sampled
        ),
        step=step,
        observed=found.shares,
        bound=dict(expected) if expected is not None else None,
        hint=(
            "check the sampler's weights, and how batches() uses `rank` and `seed`"
            if found.faults
            else MORE_SAMPLES
            if any(fault.reason == "too-few-samples" for fault in faults)
            else ""
        ),
        data={"samples": seen.samples, "counts": dict(seen.counts), "design_effect": seen.design_effect},
    )


def _sources_text(faults: Sequence[MixFault]) -> str:
    """Describe the source that is most wrong and count the others: one that is too frequent makes others too rare."""
    others = len(faults) - 1
    return (
        f"{faults[0].text}. {count(others, 'other source')} {'differ' + 's' * (others == 1)}, too"
        if others
        else faults[0].text
    )


MIX = Check(
    id="mix",
    question="Does the data mix of the recipe have the intended shares, and no dominant source?",
    when="preflight",
    verdict="invalid",
    key="mix",
    reasons=(
        Reason(id="corpus-unreadable", status="fail", when="the rows of the corpus cannot be counted"),
        Reason(id="source-without-rows", status="fail", when="a source with a weight has no rows"),
        Reason(id="unknown-source", status="fail", when="the corpus has a source that the mix does not name"),
        Reason(id="share-off-target", status="fail", when="a source's share is not the intended one"),
        Reason(id="dominant-source", status="fail", when="a source's share is larger than `mix.dominant_share`"),
        Reason(
            id="leading-source", status="fail", when="the largest source leads the next by more than `mix.lead_ratio`"
        ),
        Reason(id="stale-row-count", status="warn", when="the recipe states other row counts than the corpus has"),
    ),
    before_run=declared_mix,
)

MIX_DRAWN = Check(
    id="mix-drawn",
    question="Does the run sample each source as often as the recipe's data mix says?",
    when="first steps",
    verdict="invalid",
    key="mix",
    stops_run=True,
    reasons=(
        Reason(id="sampled-share-off", status="fail", when="a source is sampled more or less often than expected"),
        Reason(id="source-never-sampled", status="fail", when="a source of the mix is never sampled"),
        Reason(
            id="source-never-sampled",
            status="warn",
            when="the same, for a source whose share is within `mix.tolerance`",
        ),
        Reason(id="unknown-source", status="fail", when="a source is sampled that the mix does not name"),
        Reason(id="unknown-source", status="warn", when="the same, for a source whose share is within `mix.tolerance`"),
        Reason(id="dominant-source", status="warn", when="without a declared mix, a source dominates"),
        Reason(id="leading-source", status="warn", when="without a declared mix, the largest source leads by far"),
        Reason(id="too-few-samples", status="warn", when="too few samples were drawn for the tolerance"),
    ),
    on_event=(SourceCounts, sampled_mix),
)
