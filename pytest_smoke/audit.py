"""The audit of a data mix, for scripts: count a corpus, hold it or what was drawn from it against what was meant."""

from __future__ import annotations

from pytest_smoke.errors import CorpusError
from pytest_smoke.mix.audit import Audit, Fault, Mix, Source, audit
from pytest_smoke.mix.corpus import Corpus, count
from pytest_smoke.mix.draws import DrawnAudit, Draws, audit_draws

__all__ = [
    "Audit",
    "Corpus",
    "CorpusError",
    "DrawnAudit",
    "Draws",
    "Fault",
    "Mix",
    "Source",
    "audit",
    "audit_draws",
    "count",
]
