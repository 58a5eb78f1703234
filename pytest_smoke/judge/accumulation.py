"""The `accumulation` check: one batch has the same gradient in the smoke's micro-batches and in the full run's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from pytest_smoke.judge.finding import Finding

TOLERANCE = 0.01
"""Largest difference of the two gradients, as a share of their norm. Cut in another way, one batch differs by 1e-6 in
fp32; a mean over tokens whose counts were forgotten by several percent."""


class Cut(Protocol):
    """One batch in two geometries, as a run measured it."""

    @property
    def step(self) -> int:
        """The step before which it was measured."""

    @property
    def samples(self) -> int:
        """Samples in the batch."""

    @property
    def smoke(self) -> int:
        """Samples in a micro-batch of the smoke."""

    @property
    def full(self) -> int:
        """Samples in a micro-batch of the full run."""

    @property
    def batch_norm(self) -> int:
        """Layers whose statistics are those of a micro-batch."""

    @property
    def difference(self) -> float:
        """2-norm of the gradients' difference, as a share of the full run's; NaN where that is 0."""

    @property
    def smoke_terms(self) -> Mapping[str, float]:
        """Each loss term's mean over the batch, in the smoke's geometry."""

    @property
    def full_terms(self) -> Mapping[str, float]:
        """The same in the full run's."""

    @property
    def problem(self) -> str:
        """Why they could not be compared; empty where they were."""


def accumulation(cuts: Sequence[Cut]) -> Finding:
    """The finding that matters most, of one look or more: one where each stage and phase begins."""
    return min(map(_finding, cuts), key=lambda one: ("fail", "warn", "pass").index(one.status))


def _finding(cut: Cut) -> Finding:
    smoke, full = f"micro-batches of {cut.smoke} (the smoke's)", f"micro-batches of {cut.full} (the full run's)"
    problem = cut.problem
    if not problem and not math.isfinite(cut.difference):
        problem = f"before step {cut.step} it is zero or not finite"
    if problem:
        text = f"whether {smoke} have the gradient of {full} could not be seen: {problem}"
        return Finding(id="accumulation", status="warn", reason="not-compared", text=text, step=cut.step)
    apart, same = f"{100 * cut.difference:.2g} % of its norm apart", cut.difference <= TOLERANCE
    text = (
        f"{cut.samples} samples in {smoke} have {'the' if same else 'another'} gradient {'of' if same else 'than in'} "
    )
    text = f"{text}{full}: {apart}{_moved(cut)}"
    reason, hint = "", ""
    if not same:
        reason = "geometry"
        hint = (
            "where a term is a mean over tokens, return their number from counts(batch); where it compares the samples "
            f"of a micro-batch with each other, only the full run's batch_size ({cut.full}) will do"
        )
    elif cut.batch_norm:
        reason = "batch-norm"
        text = (
            f"{text}; but {cut.batch_norm} layers of batch norm train on the statistics of {cut.smoke}, not {cut.full}"
        )
    return Finding(
        id="accumulation",
        status="fail" if not same else "warn" if cut.batch_norm else "pass",
        reason=reason,
        text=text,
        step=cut.step,
        observed=cut.difference,
        bound=TOLERANCE,
        hint=hint,
        data={"smoke_terms": dict(cut.smoke_terms), "full_terms": dict(cut.full_terms)},
    )


def _moved(cut: Cut) -> str:
    moved = [
        f"; {term} is {ours:.4g}, not {theirs:.4g}"
        for term, theirs in cut.full_terms.items()
        if abs((ours := cut.smoke_terms[term]) - theirs) > TOLERANCE * abs(theirs)
    ]
    return "".join(moved)
