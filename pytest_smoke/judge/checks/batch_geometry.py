"""The `batch-geometry` check: the smoke run has the full run's effective batch."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pytest_smoke.judge.checks.check import Check, Reason
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Settings

KEYS = ("batch_size", "grad_accum_steps", "world_size")


def batch_geometry(case: Case) -> Iterator[Finding]:
    """Compare the effective batches: gradient noise is proportional to 1 / sqrt(effective batch)."""
    smoke, full = case.settings, case.full
    ours, theirs = smoke.effective_batch, full.effective_batch
    if ours == theirs:
        yield Finding(
            id=CHECK.id,
            status="pass",
            text=f"effective batch {ours:,} ({_geometry(smoke)}), the same as the full run's ({_geometry(full)})",
            observed=ours,
            bound=theirs,
        )
        return
    ratio = math.sqrt(theirs / ours)
    noise = f"{ratio:.1f}x larger" if ratio > 1 else f"{1 / ratio:.1f}x smaller"
    yield Finding(
        id=CHECK.id,
        status="fail",
        reason="different-effective-batch",
        text=(
            f"the smoke run has effective batch {ours:,} ({_geometry(smoke)}), the full run {theirs:,} "
            f"({_geometry(full)}). The smoke run's gradient noise is {noise}, so it says nothing about the full run"
        ),
        observed=ours,
        bound=theirs,
        hint=_hint(case, theirs),
        key=case.key(*(f"smoke.{key}" for key in KEYS), "smoke"),
    )


def _hint(case: Case, effective: int) -> str:
    file = next(filter(None, (case.read_from("smoke", key) for key in KEYS)), None)
    product = f"so that batch_size x grad_accum_steps x world_size is {effective}"
    return f"change {file} {product}" if file else f"change `smoke` {product}, or remove these keys to inherit them"


def _geometry(settings: Settings) -> str:
    return " x ".join(str(getattr(settings, key)) for key in KEYS)


CHECK = Check(
    id="batch-geometry",
    question="Does the smoke run have the full run's effective batch (batch_size x grad_accum_steps x world_size)?",
    when="preflight",
    verdict="invalid",
    key="smoke",
    reasons=(Reason(id="different-effective-batch", status="fail", when="the effective batches differ"),),
    before_run=batch_geometry,
)
