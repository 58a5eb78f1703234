"""From findings to the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_smoke.judge.checks.registry import DEFAULT, Registry
from pytest_smoke.outcome import Finding, Verdict, VerdictWord

PRECEDENCE: tuple[VerdictWord, ...] = ("invalid", "unstable", "error", "inconclusive", "hold")
"""Which verdict wins where findings lead to several, the strongest first; without any the verdict is `promote`.

A `hold` for a certain reason is an exception: it wins over `inconclusive`."""


def decide(findings: Sequence[Finding], registry: Registry = DEFAULT) -> Verdict:
    """Return the first of these that holds, and `promote` if none does.

    1. `invalid`: the smoke run does not represent the full run, so its loss says nothing about it.
    2. `unstable`: the loss became unstable. What happened afterwards, even a crash, does not change that.
    3. `error`: the run failed.
    4. `hold` for a certain reason: one that holds whatever the loss shows, such as parameters that do not train.
    5. `inconclusive`: something was not checked, or a rise of the loss could not have been detected.
    6. `hold`: the loss is stable, but another check failed.

    If a check did not run because another one failed, that other one decides.
    """
    words = [
        (word, finding) for finding in _ranked(findings, registry) if (word := verdict_of(finding, findings, registry))
    ]
    if words:
        word, finding = min(words, key=lambda pair: _rank(pair[0], pair[1], registry))
        return Verdict(
            word=word,
            reason=finding.reason or finding.id,
            step=finding.step,
            text=finding.text,
            decided_by=finding.id,
        )
    trends = [finding for finding in findings if finding.check == "loss-trend"]
    if not trends:
        text = "the loss was not judged"
        return Verdict(word="inconclusive", reason="loss-not-judged", step=None, text=text, decided_by="")
    decisive = next((trend for trend in trends if trend.reason), trends[-1])
    text = "; ".join(trend.text for trend in trends)
    return Verdict(word="promote", reason=decisive.reason, step=decisive.step, text=text, decided_by=decisive.id)


def verdict_of(finding: Finding, findings: Sequence[Finding], registry: Registry = DEFAULT) -> VerdictWord | None:
    """Return the verdict that a finding leads to; None if it does not stand against a promotion."""
    if finding.status not in ("fail", "not-checked"):
        return None
    row = registry.row(finding)
    reason = row.reason(finding.reason, finding.status) if row else None
    if reason is not None and any(
        other.status == "fail" and ("*" in reason.yields_to or other.check in reason.yields_to) for other in findings
    ):
        return None
    if reason is not None and not reason.blocks:
        return None
    if reason is not None and reason.verdict is not None:
        return reason.verdict
    if finding.status == "not-checked":
        return "inconclusive"
    return row.verdict if row else "hold"


def _rank(word: VerdictWord, finding: Finding, registry: Registry) -> float:
    """Return the place of a finding's verdict in `PRECEDENCE`; a certain `hold` is right before `inconclusive`."""
    row = registry.row(finding)
    reason = row.reason(finding.reason, finding.status) if row else None
    if word == "hold" and reason is not None and reason.certain:
        return PRECEDENCE.index("inconclusive") - 0.5
    return PRECEDENCE.index(word)


def _ranked(findings: Sequence[Finding], registry: Registry) -> Iterator[Finding]:
    """Order findings by which decides first: a loss that was not judged, then stages, then all others as they come."""

    def rank(finding: Finding) -> int:
        if finding.check in ("finite", "loss-trend") and finding.status == "not-checked":
            return 0
        row = registry.row(finding)
        return 1 if row is not None and row.decides_first else 2

    yield from sorted(findings, key=rank)
