"""The acceptance table: each criterion with its target, what was seen, and whether that was enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pytest_smoke.judge.verdict import CRITERION, READINGS, STAGE, check_of
from pytest_smoke.outcome import Finding, Outcome
from pytest_smoke.text import NOT_CHECKED, STATUS_WORDS, table

HEADER = ("criterion", "target", "current", "status")
"""`target` is what the right side of a criterion came to, `current` what its left side did."""
INFRASTRUCTURE = "infrastructure"
"""The row of all checks that are no criteria, readings apart: these say what the metrics did, and decide nothing."""


def acceptance(outcome: Outcome) -> list[str]:
    """Rows of the table, its header first; empty for a smoke without criteria, or one that nobody judged by them.

    Criteria of stages come first, then the smoke's own, then the full run's, which a smoke cannot judge.
    """
    judged = [*_of_stages(outcome), *_of_smoke(outcome)]
    if outcome.mode == "wiring" or all(row[-1] == NOT_CHECKED for row in judged):
        return []
    full = [(text, "", "", "full run") for text in outcome.facts.get("full_accept", [])]
    rows = [HEADER, _infrastructure(outcome), *judged, *full]
    return table(rows)


def _infrastructure(outcome: Outcome) -> tuple[str, ...]:
    others = [finding for finding in outcome.findings if check_of(finding.id) not in (CRITERION, STAGE, *READINGS)]
    wrong = [f"{finding.id} {finding.status}" for finding in others if finding.status != "pass"]
    statuses = {finding.status for finding in others}
    worst = next((status for status in ("fail", "not-checked", "warn") if status in statuses), "pass")
    seen = "; ".join([f"{len(others) - len(wrong)} of {len(others)} pass", *wrong])
    return INFRASTRUCTURE, f"{len(others)} checks", seen, STATUS_WORDS[worst]


def _of_stages(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    for finding in outcome.findings:
        if check_of(finding.id) == STAGE:
            name = finding.id[len("stage[") : -1]
            for wire in finding.data.get("criteria", []):
                yield _row(Finding.from_dict(wire), f"stage {name}: ")


def _of_smoke(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    for finding in outcome.findings:
        if check_of(finding.id) == CRITERION:
            yield _row(finding)


def _row(finding: Finding, before: str = "") -> tuple[str, ...]:
    name = finding.data.get("name")
    before += f"{name}: " if name else ""
    text = finding.id[len("accept[") : -1]
    return before + text, _number(finding.bound), _number(finding.observed), STATUS_WORDS[finding.status]


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, int | float) else str(value)
