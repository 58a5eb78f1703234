"""What a person reads in the terminal: the table at the end, and the text of a smoke that was not promoted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_smoke.outcome import Finding, Outcome
from pytest_smoke.report.sparkline import sparkline
from pytest_smoke.text import NOT_CHECKED, STATUS_WORDS, table

HINTS = 3
"""Hints a failure text gives at most: the first is the one to try."""
HEADER = ("recipe", "mode", "verdict", "steps", "evidence", "loss", "smallest rise", "seconds")


def headline(outcome: Outcome) -> str:
    """`unstable: loss rose from ...`, the first line of everything said about a smoke."""
    word = f"{outcome.verdict} ({outcome.reason})" if outcome.reason else outcome.verdict
    return f"{word}: {outcome.text}"


def failure(outcome: Outcome, *, place: str, rerun: str) -> str:
    """Reason first, then the curve, all findings, hints, the user's file and line, and the command to run it again."""
    parts = [headline(outcome)]
    losses = [float(value) for value in outcome.curve.get("loss", [])]
    if losses:
        last = outcome.facts["steps"] - 1
        parts.append(f"  loss {_g(losses[0])} {sparkline(losses)} {_g(losses[-1])}   steps 0-{last}")
    parts.append("\n".join(_finding_rows(outcome.findings)))
    hints = list(dict.fromkeys(f.hint for f in _by_gravity(outcome.findings) if f.hint))[:HINTS]
    if hints:
        parts.append("\n".join(f"  hint: {hint}" for hint in hints))
    if outcome.output:
        parts.append("  last lines of its output:\n" + "\n".join(f"    {line}" for line in outcome.output.splitlines()))
    parts.append(f"  {place}\n  rerun: {rerun}")
    return "\n\n".join(parts)


def verdict_table(outcomes: Iterable[Outcome]) -> list[tuple[str, str]]:
    """Rows of the closing table, header first, each with the verdict it speaks of (empty for the header)."""
    rows: list[tuple[str, ...]] = [HEADER]
    verdicts = [""]
    for outcome in sorted(outcomes, key=lambda outcome: outcome.id):
        own = [_row(outcome), *(_stage_row(stage) for stage in outcome.facts.get("stages", []))]
        rows += own
        verdicts += [outcome.verdict] * len(own)
    return list(zip(table(rows), verdicts, strict=True))


def warnings(outcomes: Iterable[Outcome]) -> list[str]:
    """A line for each check that warns about a smoke that was promoted all the same."""
    return [
        f"{outcome.id}: {finding.id} warns: {finding.text}{f' ({finding.hint})' if finding.hint else ''}"
        for outcome in sorted(outcomes, key=lambda outcome: outcome.id)
        for finding in outcome.findings
        if outcome.promoted and finding.status == "warn"
    ]


def properties(outcome: Outcome) -> list[tuple[str, Any]]:
    """What a JUnit `<testcase>` says of a smoke."""
    kept = ("steps", "evidence_steps", "loss_first", "loss_last", "smallest_rise", "seconds", "device")
    facts = [(f"smoke_{key}", outcome.facts[key]) for key in kept if outcome.facts.get(key) is not None]
    checks = [(f"smoke_check[{finding.id}]", finding.status) for finding in outcome.findings]
    verdict = [("smoke_verdict", outcome.verdict), ("smoke_reason", outcome.reason), ("smoke_text", outcome.text)]
    return [*verdict, *([("smoke_step", outcome.step)] if outcome.step is not None else []), *facts, *checks]


def _row(outcome: Outcome) -> tuple[str, ...]:
    facts = outcome.facts
    first, last, rise = facts.get("loss_first"), facts.get("loss_last"), facts.get("smallest_rise")
    steps, planned = facts.get("steps", 0), facts.get("planned_steps", 0)
    return (
        outcome.recipe,
        outcome.mode if outcome.cell is None else f"{outcome.mode}[{outcome.cell}]",
        f"{outcome.verdict} ({outcome.reason})" if outcome.reason else outcome.verdict,
        str(steps) if steps == planned else f"{steps}/{planned}",
        str(facts.get("evidence_steps", 0)) if steps else "-",
        f"{_g(first)} -> {_g(last)}" if first is not None and last is not None else "-",
        f"{rise:.2g}" if rise is not None and outcome.verdict in ("promote", "hold") else "-",
        f"{facts['seconds']:.1f}" if "seconds" in facts else "-",
    )


def _stage_row(stage: Mapping[str, Any]) -> tuple[str, ...]:
    """A stage below its smoke: what its curve said, and its criteria where they failed."""
    first, last, steps = stage.get("loss_first"), stage.get("loss_last"), stage["steps"]
    return (
        f"  stage {stage['name']}",
        "",
        "criteria failed" if stage["criteria"] == "fail" else stage["loss_verdict"] or "not started",
        str(steps) if steps == stage["planned_steps"] else f"{steps}/{stage['planned_steps']}",
        str(stage["evidence_steps"]) if steps else "-",
        f"{_g(first)} -> {_g(last)}" if first is not None and last is not None else "-",
        "",
        f"{stage['train_seconds']:.1f}" if "train_seconds" in stage else "-",
    )


def _finding_rows(findings: Sequence[Finding]) -> list[str]:
    width = max(len(finding.id) for finding in findings)
    return [f"  {f.id.ljust(width)}  {STATUS_WORDS[f.status].ljust(len(NOT_CHECKED))}  {f.text}" for f in findings]


def _by_gravity(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: ("fail", "not-checked", "warn", "pass").index(f.status))


def _g(value: float) -> str:
    return f"{value:.4g}"
