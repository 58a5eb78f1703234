"""The kinds of errors in a task's predictions, one paragraph per smoke run."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_smoke.judge.checks.prediction_errors import CHECK
from pytest_smoke.outcome import Outcome
from pytest_smoke.report.layout import WIDTH, short_ids, wrap


def error_lines(outcomes: Iterable[Outcome], *, width: int = WIDTH) -> list[str]:
    """Render them by id; predictions that could not be read are a warning, and not repeated here."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.id)
    names = short_ids([outcome.id for outcome in ordered])
    return [
        line
        for outcome in ordered
        for finding in outcome.findings
        if finding.check == CHECK.id and finding.status == "pass"
        for line in wrap(f"{names[outcome.id]}: {finding.text}", width)
    ]
