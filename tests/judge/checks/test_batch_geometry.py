"""The `batch-geometry` check."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.judge.checks.batch_geometry import batch_geometry
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from tests.judge.checks.cases import case


def finding_of(case: Case) -> Finding:
    (finding,) = batch_geometry(case)
    return finding


def test_a_smaller_effective_batch_fails_with_its_noise() -> None:
    """A smoke run with an effective batch of 8 passed; the full run with 128 diverged."""
    finding = finding_of(case(batch_size=8, grad_accum_steps=1))
    assert (finding.status, finding.reason) == ("fail", "different-effective-batch")
    assert finding.text == (
        "the smoke run has effective batch 8 (8 x 1 x 1), the full run 128 (16 x 8 x 1). The smoke run's "
        "gradient noise is 4.0x larger, so it says nothing about the full run"
    )
    assert finding.hint == (
        "change `smoke` so that batch_size x grad_accum_steps x world_size is 128, or remove these keys to inherit them"
    )


@given(ours=st.tuples(*[st.integers(1, 64)] * 3), theirs=st.tuples(*[st.integers(1, 64)] * 3))
def test_only_the_product_counts_and_the_noise_is_the_root_of_the_ratio(
    ours: tuple[int, ...], theirs: tuple[int, ...]
) -> None:
    keys = ("batch_size", "grad_accum_steps", "world_size")
    finding = finding_of(case(full=dict(zip(keys, theirs, strict=True)), **dict(zip(keys, ours, strict=True))))
    a, b = math.prod(ours), math.prod(theirs)
    assert (finding.status == "pass") == (a == b)
    if a != b:
        word = "larger" if a < b else "smaller"
        assert f"{math.sqrt(max(a, b) / min(a, b)):.1f}x {word}" in finding.text
