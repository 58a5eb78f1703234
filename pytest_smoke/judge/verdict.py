"""From findings to the one word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_smoke.judge.finding import Finding
from pytest_smoke.judge.pipeline import PREFIX as PIPELINE
from pytest_smoke.judge.pipeline import UPSTREAM

Word = Literal["promote", "unstable", "hold", "invalid", "inconclusive", "error"]

PREFLIGHT = ("batch-geometry", "schedule", "rehearsal", "mix", "mix-drawn")
"""Checks of the rehearsal's fairness; the last needs the run's first steps."""
STABILITY = ("finite", "loss-trend")
"""Checks of the loss."""
RUN = "run"
"""The check that the child did what it was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the smoke says, with the finding that decided."""

    word: Word
    reason: str
    """One word for scripts: `rise`, `effective-batch`, `crash`, ...; empty for a clean promotion."""
    step: int | None
    text: str
    """The sentence of the finding that decided."""


def decide(findings: Sequence[Finding]) -> Verdict:
    """The first of these that holds, and `promote` where none does.

    1. `invalid`: the rehearsal was not fair, so its curve says nothing about the full run.
    2. `unstable`: the loss says so. What came after it, a crash too, does not change it.
    3. `error`: the run broke off.
    4. `inconclusive`: something was not checked, or the curve could not have shown a rise.
    5. `hold`: stable, but another check failed.

    What was not checked because another check failed gives way to that one. And a broken pipeline is a `hold` in a
    wiring run too, which says nothing of the loss.
    """
    failed = [finding for finding in findings if finding.status == "fail"]
    unchecked = [finding for finding in findings if finding.status == "not-checked"]
    if failed:
        unchecked = [finding for finding in unchecked if finding.reason != UPSTREAM]
    if any(finding.id.startswith(PIPELINE) for finding in failed):
        unchecked = [finding for finding in unchecked if finding.reason != "wiring"]
    for word, candidates in (
        ("invalid", [f for f in failed if f.id in PREFLIGHT or f.reason == "masked"]),
        ("unstable", [f for f in failed if f.id in STABILITY]),
        ("error", [f for f in failed if f.id == RUN]),
        ("inconclusive", sorted(unchecked, key=lambda f: f.id not in STABILITY)),
        ("hold", failed),
    ):
        if candidates:
            return _verdict(word, candidates[0])  # type: ignore[arg-type]  # the five words above are Words
    trend = next((finding for finding in findings if finding.id == "loss-trend"), None)
    if trend is None:
        return Verdict(word="inconclusive", reason="no-trend", step=None, text="the loss was not judged")
    return _verdict("promote", trend)


def _verdict(word: Word, finding: Finding) -> Verdict:
    return Verdict(
        word=word,
        reason=finding.reason or ("" if word == "promote" else finding.id),
        step=finding.step,
        text=finding.text,
    )
