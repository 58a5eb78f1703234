"""The order in which reports list smoke runs: what needs attention comes first."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_smoke.outcome import Outcome, VerdictWord

WORST_FIRST: tuple[VerdictWord, ...] = ("unstable", "error", "invalid", "hold", "inconclusive", "promote")
"""Verdicts: first what broke, then what was not a fair test, what fell short, and what could not be told."""


def worst_first(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Sort by verdict, then by id; runs that completed without a verdict come just before the promoted ones."""
    return sorted(outcomes, key=lambda one: (WORST_FIRST.index(one.verdict), bool(one.completed), one.id))
