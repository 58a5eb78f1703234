"""Audit of a data mix, for scripts: count a corpus, compare it or a run's samples with the intended mix."""

from __future__ import annotations

from pytest_smoke.errors import CorpusError
from pytest_smoke.mix.audit import MixAudit, MixFault, PlainMix, PlainSource, audit
from pytest_smoke.mix.corpus import Corpus, count_corpus
from pytest_smoke.mix.samples import SampleCounter, SampledMixAudit, audit_samples

__all__ = [
    "Corpus",
    "CorpusError",
    "MixAudit",
    "MixFault",
    "PlainMix",
    "PlainSource",
    "SampleCounter",
    "SampledMixAudit",
    "audit",
    "audit_samples",
    "count_corpus",
]
