"""Estimates for the full runs of the smoke runs that were promoted."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_smoke.outcome import Outcome
from pytest_smoke.report.layout import WIDTH, short_ids, wrap
from pytest_smoke.text import count, listed, seconds


def full_run_lines(outcomes: Iterable[Outcome], *, width: int = WIDTH) -> list[str]:
    """Render a paragraph for each promoted smoke run: length, time and criteria of its full run."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.id)
    names = short_ids([outcome.id for outcome in ordered])
    return [
        line
        for outcome in ordered
        if outcome.promoted and (text := _estimate(outcome))
        for line in wrap(f"{names[outcome.id]}: {text}", width)
    ]


def _estimate(outcome: Outcome) -> str:
    facts, parts = outcome.facts, []
    if facts.estimated_full_seconds is not None and facts.full_steps and facts.steps:
        parts.append(
            f"the full run has {count(facts.full_steps, 'step')} ({facts.full_steps / facts.steps:.3g}x the smoke run) "
            f"and takes about {seconds(facts.estimated_full_seconds)} at {facts.samples_per_second or 0:,.0f} samples/s"
        )
    if facts.full_accept:
        criteria = listed(map(_criterion, facts.full_accept), limit=len(facts.full_accept))
        parts.append(f"{'it' if parts else 'the full run'} must meet {criteria}")
    return "; ".join(parts)


def _criterion(text: str) -> str:
    """Move the name of a criterion to its end: `max(grad_norm) < 50 (gradient health)`."""
    name, colon, condition = text.partition(":")
    named = colon and not set(name) & set("`<>=!")  # a metric in backticks may have a colon
    return f"{condition.strip()} ({name.strip()})" if named else text
