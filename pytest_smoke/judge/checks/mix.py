"""The `mix` check: the data mix a recipe samples, and where it names its corpus the rows that lie there."""

from __future__ import annotations

from pathlib import Path

from pytest_smoke.errors import CorpusError
from pytest_smoke.mix.audit import audit
from pytest_smoke.mix.corpus import Corpus, count
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.model import Mix


def corpus_of(mix: Mix) -> Corpus:
    """The corpus that the mix names, counted, or the rows it states. Raises CorpusError where it cannot be counted."""
    if mix.corpus is not None:
        return count(Path(mix.corpus))
    return Corpus(counts={name: source.rows or 0 for name, source in mix.sources.items()}, unit="rows")


def stale_rows(mix: Mix, corpus: Corpus) -> list[str]:
    """A sentence for each source whose stated rows are not those that were counted; the counted ones are used."""
    if corpus.unit != "rows":
        return []
    return [
        f"source {name!r} has {corpus.counts.get(name, 0)} rows, not the {source.rows} that the recipe states"
        for name, source in mix.sources.items()
        if source.rows is not None and source.rows != corpus.counts.get(name, 0)
    ]


def audit_mix(mix: Mix) -> Finding:
    """Intended shares are met, no source dominates, none leads the next by too much, and none is there unnamed."""
    try:
        corpus = corpus_of(mix)
    except CorpusError as error:
        return Finding(id="mix", status="fail", reason="corpus", text=f"the corpus was not counted: {error}")
    found = audit(corpus.counts, mix, unit=corpus.unit)
    if not found.faults:
        stale = stale_rows(mix, corpus)
        return Finding(
            id="mix",
            status="warn" if stale else "pass",
            reason="rows" if stale else "",
            text="; ".join([f"sampled mix: {found.table}", *stale]),
            data={"shares": found.shares},
        )
    return Finding(
        id="mix",
        status="fail",
        reason=found.faults[0].reason,
        text="; ".join(fault.text for fault in found.faults),
        observed=found.shares,
        hint=f"sampled mix: {found.table}; change the weights, or mix.dominant_share and mix.lead_ratio if it is meant",
        data={"shares": found.shares},
    )
