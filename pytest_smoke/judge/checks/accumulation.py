"""The `accumulation` check: one batch has the same gradient in the smoke's micro-batches and in the full run's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from pytest_smoke.outcome import Finding

ID = "accumulation"
TOLERANCE = 0.01
"""Largest difference of the two gradients, as a share of their norm."""
HALF_TOLERANCE = 0.05
"""The same where gradients are rounded to 16 bits: plain means were seen up to 1.05 % apart in bf16."""
ROUNDING = 1e-4
"""What rounding makes of equal means in fp32 is 1e-6; a difference from here on has a cause, though a small one."""
TERM_TOLERANCE = 0.05
"""Largest difference of a loss term's two means, as a share of the full run's: more means another loss, though early in
training its gradient may be small beside the others'. Balancing losses of mixtures of experts were seen 1.5 % apart."""
NEGLIGIBLE = 1e-4
"""A term's weighted difference below this share of the whole loss is no matter: it may be rounding about 0."""


class Cut(Protocol):
    """One batch in two geometries, as a run measured it."""

    @property
    def step(self) -> int:
        """The step before which it was measured."""

    @property
    def stage(self) -> str | None:
        """The stage that begins there, or one of whose phases does."""

    @property
    def phase(self) -> str | None:
        """The phase."""

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
    def half(self) -> bool:
        """Whether gradients are rounded to 16 bits."""

    @property
    def difference(self) -> float:
        """2-norm of the gradients' difference, as a share of the larger norm; NaN where both are 0."""

    @property
    def weights(self) -> Mapping[str, float]:
        """Each loss term's weight."""

    @property
    def smoke_terms(self) -> Mapping[str, float]:
        """Each loss term's mean over the batch, in the smoke's geometry."""

    @property
    def full_terms(self) -> Mapping[str, float]:
        """The same in the full run's."""

    @property
    def ignored(self) -> bool:
        """Whether the task gives as many samples, whatever batch size it is asked for."""

    @property
    def problem(self) -> str:
        """Why they could not be compared; empty where they were."""


def accumulation(cuts: Sequence[Cut]) -> list[Finding]:
    """A finding for each stage, or one: that of the phase in which most is wrong."""
    found: dict[str, Finding] = {}
    for cut in cuts:
        one = _finding(cut)
        known = found.setdefault(one.id, one)
        found[one.id] = min(known, one, key=lambda each: ("fail", "warn", "pass").index(each.status))
    return list(found.values())


def _finding(cut: Cut) -> Finding:
    reason, text, hint = _said(cut)
    where = f"stage {cut.stage}" + (f", phase {cut.phase}" if cut.phase else "") if cut.stage else ""
    return Finding(
        id=f"{ID}[{cut.stage}]" if cut.stage else ID,
        status="pass" if not reason else "fail" if reason in ("geometry", "batch-size") else "warn",
        reason=reason,
        text=f"{where}: {text}" if where else text,
        step=cut.step,
        observed=cut.difference if math.isfinite(cut.difference) else None,
        bound=_tolerance(cut),
        hint=hint,
        data={"smoke_terms": dict(cut.smoke_terms), "full_terms": dict(cut.full_terms)},
    )


def _said(cut: Cut) -> tuple[str, str, str]:
    """Reason (empty: all is well), sentence and hint."""
    smoke, full = f"micro-batches of {cut.smoke} (the smoke's)", f"micro-batches of {cut.full} (the full run's)"
    if cut.ignored:
        few, many = sorted((cut.smoke, cut.full))
        text = (
            f"batches({few}) gives as many samples as batches({many}): the effective batch is not what the recipe says"
        )
        return "batch-size", text, "let batches() yield as many samples as it is asked for"
    if problem := cut.problem or _no_number(cut):
        return "not-compared", f"whether {smoke} have the gradient of {full} could not be seen: {problem}", ""
    apart = f"{_percent(cut.difference)} of its norm apart"
    if cut.difference > _tolerance(cut):
        text = f"{cut.samples} samples in {smoke} have another gradient than in {full}: {apart}{_moved(cut, TOLERANCE)}"
        return "geometry", text, _hint(cut)
    if moved := _moved(cut, TERM_TOLERANCE):
        text = f"{cut.samples} samples in {smoke} have another loss than in {full}{moved}; the gradient is {apart}"
        return "geometry", text, _hint(cut)
    if cut.difference > ROUNDING and not cut.half:
        text = f"{cut.samples} samples in {smoke} have nearly the gradient of {full}: {apart}, more than rounding"
        return "nearly", text, _hint(cut)
    text = f"{cut.samples} samples in {smoke} have the gradient of {full}: {apart}"
    if not cut.batch_norm:
        return "", text, ""
    layers = f"{cut.batch_norm} layer{'s' * (cut.batch_norm > 1)} of batch norm"
    return "batch-norm", f"{text}; but the statistics of {layers} are those of {cut.smoke} samples, not {cut.full}", ""


def _hint(cut: Cut) -> str:
    """Why a loss may depend on how a batch is cut."""
    causes = "a mean over tokens, or any weighted one, needs their number from counts(batch), one for each such term"
    norm = "; so does batch norm on the statistics of a micro-batch" if cut.batch_norm else ""
    return (
        f"{causes}; a sum, or a loss that compares the samples of a micro-batch, needs the full run's batch_size "
        f"({cut.full}){norm}"
    )


def _tolerance(cut: Cut) -> float:
    return HALF_TOLERANCE if cut.half else TOLERANCE


def _moved(cut: Cut, tolerance: float) -> str:
    """The terms whose two means differ by more; one without a weight trains nothing."""
    said, whole = "", sum(abs(cut.weights[term] * theirs) for term, theirs in cut.full_terms.items())
    for term, theirs in cut.full_terms.items():
        ours = cut.smoke_terms[term]
        apart = abs(ours - theirs)
        if apart > tolerance * abs(theirs) and abs(cut.weights[term]) * apart > NEGLIGIBLE * whole:
            said += f"; {term} is {ours:.4g}, not {theirs:.4g}"
    return said


def _no_number(cut: Cut) -> str:
    """Why two numbers say nothing; empty where they do."""
    terms = [*cut.smoke_terms.items(), *cut.full_terms.items()]
    if broken := next((f"{term} is {value}" for term, value in terms if not math.isfinite(value)), ""):
        return broken
    if math.isnan(cut.difference):
        return "both gradients are zero, or not finite"
    return "" if math.isfinite(cut.difference) else "a gradient is not finite"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"
