"""A line for each smoke whose task gave predictions: the kinds of their errors."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_smoke.judge.checks.prediction_errors import ERRORS
from pytest_smoke.outcome import Outcome


def error_lines(outcomes: Iterable[Outcome]) -> list[str]:
    """By id; nothing for predictions that could not be read, which are a warning."""
    return [
        f"{outcome.id}: {finding.text}"
        for outcome in sorted(outcomes, key=lambda outcome: outcome.id)
        for finding in outcome.findings
        if finding.id == ERRORS and finding.status == "pass"
    ]
