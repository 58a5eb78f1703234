"""What the smokes say of their full runs: how long one would take at this pace, and what it must reach."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_smoke.outcome import Outcome


def ahead(outcomes: Iterable[Outcome]) -> list[str]:
    """A line for each smoke that was promoted: its pace, an estimate of the full run's time, its criteria."""
    return [
        line
        for outcome in sorted(outcomes, key=lambda outcome: outcome.id)
        if outcome.promoted and (line := _line(outcome))
    ]


def clock(seconds: float) -> str:
    """`2:05:09` or `5:09`, hours, minutes and seconds."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _line(outcome: Outcome) -> str:
    facts, parts = outcome.facts, []
    full = facts.get("estimated_full_seconds")
    if full is not None:
        times = facts["full_steps"] / facts["steps"]
        pace = f"{facts['samples_per_second']:,.0f} samples/s"
        parts.append(f"{facts['full_steps']:,} steps, {times:.3g}x the smoke's, about {clock(full)} at its {pace}")
    if facts.get("full_accept"):
        parts.append(f"must reach {'; '.join(facts['full_accept'])}")
    return f"{outcome.id}: full run: {'; '.join(parts)}" if parts else ""
