"""The `mix-drawn` check: what the sampler drew is the mix that was audited."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_smoke.mix.audit import Intent, Mix, percent
from pytest_smoke.mix.draws import Seen, audit_draws
from pytest_smoke.outcome import Finding


def mix_drawn(seen: Seen, expected: Mapping[str, float] | None, mix: Intent | None, *, step: int) -> Finding:
    """Fails if a source's drawn share differs from the expected one by more than the tolerance and than chance.

    `expected` and `mix` are None for a recipe without `mix:`; then one source that dominates is a warning. `step` is
    the last one whose samples were counted.
    """
    found = audit_draws(seen, expected, mix or Mix(sources={}))
    table = ", ".join(f"{name} {percent(share)}" for name, share in found.shares.items())
    drawn = f"drawn in the first {step + 1} steps ({seen.samples} samples): {table}"
    faults = found.faults or found.warnings
    return Finding(
        id="mix-drawn",
        status="fail" if found.faults else "warn" if found.warnings else "pass",
        reason=faults[0].reason if faults else "",
        text="; ".join(fault.text for fault in faults) if faults else drawn,
        step=step,
        observed=found.shares,
        bound=dict(expected) if expected is not None else None,
        hint=f"{drawn}; look at the sampler's weights, and at what batches() does with rank and seed"
        if found.faults
        else "",
        data={"samples": seen.samples, "counts": dict(seen.counts), "design_effect": seen.design_effect},
    )
