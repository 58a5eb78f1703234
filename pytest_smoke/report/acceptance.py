"""The acceptance table: each criterion with its target, its current value, and whether it is met."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pytest_smoke.judge.checks.advisories import ADVISORIES
from pytest_smoke.outcome import Finding, Outcome
from pytest_smoke.report.layout import WIDTH, fitted_table
from pytest_smoke.text import NOT_CHECKED, STATUS_WORDS, number

CRITERION, STAGE = "accept", "stage"
"""Checks that judge the criteria of a smoke run and of its stages."""
HEADER = ("status", "criterion", "target", "current")
"""`target` is the value of a criterion's right side, `current` that of its left side."""
OTHER_CHECKS = "all other checks"
"""Row that sums up the checks that are neither criteria nor advisories on metrics, which never decide."""
FULL_RUN = "full run only"
"""Status of a criterion that only the full run can meet."""


def acceptance_table(outcome: Outcome, *, width: int = WIDTH) -> list[str]:
    """Render the table for a terminal, header first; empty if `acceptance_rows` is."""
    rows = acceptance_rows(outcome)
    if not rows:
        return []
    return [line for lines in fitted_table(HEADER, rows, width, wrapped=("criterion", "current")) for line in lines]


def acceptance_rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """Return the rows below `HEADER`; none for a smoke run without criteria, or if none of them was checked.

    Criteria of stages come first, then those of the smoke run, then those of the full run.
    """
    judged = [*_stage_criteria(outcome), *_criteria(outcome)]
    if outcome.mode == "wiring" or all(row[0] == NOT_CHECKED for row in judged):
        return []
    full = [(FULL_RUN, text, "", "") for text in outcome.facts.full_accept]
    return [_other_checks(outcome), *judged, *full]


def _other_checks(outcome: Outcome) -> tuple[str, ...]:
    not_counted = {CRITERION, STAGE, *(check.id for check in ADVISORIES)}
    others = [finding for finding in outcome.findings if finding.check not in not_counted]
    wrong = [f"{finding.id} {STATUS_WORDS[finding.status]}" for finding in others if finding.status != "pass"]
    statuses = {finding.status for finding in others}
    worst = next((status for status in ("fail", "not-checked", "warn") if status in statuses), "pass")
    current = "; ".join([f"{len(others) - len(wrong)} of {len(others)} pass", *wrong])
    return STATUS_WORDS[worst], OTHER_CHECKS, "", current


def _stage_criteria(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    for finding in outcome.findings:
        if finding.check == STAGE:
            for tree in finding.data.get("criteria", []):
                yield _row(Finding.from_dict(tree), f"stage {finding.subject}: ")


def _criteria(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    for finding in outcome.findings:
        if finding.check == CRITERION:
            yield _row(finding)


def _row(finding: Finding, prefix: str = "") -> tuple[str, ...]:
    name = finding.data.get("name")
    criterion = f"{prefix}{name}: {finding.subject}" if name else prefix + finding.subject
    return STATUS_WORDS[finding.status], criterion, _value(finding.bound), _value(finding.observed)


def _value(value: Any) -> str:
    return "" if value is None else number(value) if isinstance(value, int | float) else str(value)
