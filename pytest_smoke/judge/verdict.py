"""From findings to the one word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pytest_smoke.judge.checks.pipeline import PREFIX as PIPELINE
from pytest_smoke.judge.checks.pipeline import UPSTREAM
from pytest_smoke.outcome import Finding

VerdictWord = Literal["promote", "unstable", "hold", "invalid", "inconclusive", "error"]

PREFLIGHT = ("batch-geometry", "schedule", "settings", "mix", "mix-drawn", "accumulation", "baseline")
"""Checks of the rehearsal's fairness; `mix-drawn` and `accumulation` need the run's first steps."""
STABILITY = ("finite", "loss-trend")
"""Checks of the loss."""
RUN = "run"
"""The check that the child did what it was told."""
STAGE = "stage"
"""A stage's own criteria."""
CRITERION = "accept"
"""One of the smoke's own."""
READINGS = ("peaked", "began", "pace", "exposure", "metrics", "full-accept")
"""What the metrics say, and what decides nothing."""
HELD = "held"
"""Reason of what was not checked because an earlier stage failed its criteria: that is why, and no gap."""


def check_of(id: str) -> str:
    """The check behind an id: `loss-trend` of `loss-trend` and of `loss-trend[A]`."""
    return id.partition("[")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the smoke says, with the finding that decided."""

    word: VerdictWord
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
    5. `hold`: stable, but another check failed; a stage's criteria before all others.

    What was not checked because another check failed gives way to that one. And a broken pipeline is a `hold` in a
    wiring run too, which says nothing of the loss.
    """
    failed = [finding for finding in findings if finding.status == "fail"]
    unchecked = [finding for finding in findings if finding.status == "not-checked"]
    if failed:
        unchecked = [finding for finding in unchecked if finding.reason != UPSTREAM]
    if any(finding.id.startswith(PIPELINE) for finding in failed):
        unchecked = [finding for finding in unchecked if finding.reason != "wiring"]
    if any(check_of(finding.id) == STAGE for finding in failed):
        unchecked = [finding for finding in unchecked if finding.reason != HELD]
    for word, candidates in (
        ("invalid", [f for f in failed if check_of(f.id) in PREFLIGHT or f.reason == "masked"]),
        ("unstable", [f for f in failed if check_of(f.id) in STABILITY]),
        ("error", [f for f in failed if f.id == RUN]),
        ("inconclusive", sorted(unchecked, key=lambda f: check_of(f.id) not in STABILITY)),
        ("hold", sorted(failed, key=lambda f: check_of(f.id) != STAGE)),
    ):
        if candidates:
            return _verdict(word, candidates[0])  # type: ignore[arg-type]  # the five words above are Words
    trends = [finding for finding in findings if check_of(finding.id) == "loss-trend"]
    if not trends:
        return Verdict(word="inconclusive", reason="no-trend", step=None, text="the loss was not judged")
    decisive = next((trend for trend in trends if trend.reason), trends[-1])
    text = "; ".join(trend.text for trend in trends)
    return replace(_verdict("promote", decisive), text=text)


def _verdict(word: VerdictWord, finding: Finding) -> Verdict:
    return Verdict(
        word=word,
        reason=finding.reason or ("" if word == "promote" else finding.id),
        step=finding.step,
        text=finding.text,
    )
