"""The closing table of all smoke runs, and the failure text of one that was not promoted."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from pytest_smoke.outcome import Finding, Outcome, StageFacts
from pytest_smoke.report.layout import MIN_CELL, WIDTH, fitted_table, short_ids, wrap
from pytest_smoke.report.sparkline import sparkline
from pytest_smoke.text import NOT_CHECKED, STATUS_WORDS, count, listed, number, percent, seconds, verdict_label

HINTS = 3
"""A failure text gives at most this many hints."""
MAX_BARS = 60
"""Longest curve of a failure text."""
COLUMNS = ("verdict", "smoke run", "steps", "evidence", "loss", "smallest rise", "time", "full run")
"""Header of the closing table."""
DROPPED = ("full run", "smallest rise", "evidence", "time", "loss")
"""Columns that are left out of a table too wide for the terminal, the first one first."""
_GRAVITY = ("fail", "not-checked", "warn", "pass")


def label(outcome: Outcome) -> str:
    """Format the verdict with its reason: `unstable (rise)`; `wiring ok` and `preflight ok` for runs without one."""
    return f"{outcome.completed} ok" if outcome.completed else verdict_label(outcome.verdict, outcome.reason)


def style(outcome: Outcome) -> str:
    """Return what colours a line about the outcome: its verdict, or `promote` for a completed wiring or preflight."""
    return "promote" if outcome.completed else outcome.verdict


def headline(outcome: Outcome) -> str:
    """Format verdict, reason and the sentence that decided: `unstable (rise): loss rose from ...`."""
    return f"{label(outcome)}: {outcome.text}"


def failure(outcome: Outcome, *, place: str, rerun: str, width: int = WIDTH, verbose: bool = False) -> str:
    """Render the failure text of a smoke run: verdict, curve, findings, hints, place, and the command that reruns it.

    Lists the checks that failed or warn, and counts the others; `verbose` lists all.
    """
    parts = [wrap(headline(outcome), width)]
    if curve := curve_line(outcome, width - 2):
        parts.append([f"  {curve}"])
    parts.append(_finding_rows(outcome, width, verbose=verbose))
    parts.append([line for hint in hints(outcome) for line in wrap(hint, width, first="  hint: ", rest=" " * 8)])
    if outcome.output:
        lines = [f"    {line}".rstrip() for line in outcome.output.splitlines()]
        parts.append(["  last output of the training process:", *lines])
    parts.append([f"  {place}", f"  rerun: {rerun}"])
    return "\n\n".join("\n".join(part) for part in parts if part)


def hints(outcome: Outcome) -> list[str]:
    """Return the hints of a smoke run that was not promoted, the most important first; at most `HINTS`."""
    return list(dict.fromkeys(finding.hint for finding in by_gravity(outcome) if finding.hint))[:HINTS]


def curve_line(outcome: Outcome, width: int) -> str:
    """Draw the loss between its first and last level on one line; empty for a run without steps."""
    losses = [float(value) for value in outcome.curve.get("loss", [])]
    if not losses:
        return ""
    before, after = f"loss {number(losses[0])} ", f" {number(losses[-1])}   steps 0-{(outcome.facts.steps or 0) - 1}"
    return before + sparkline(losses, width=max(1, min(MAX_BARS, width - len(before) - len(after)))) + after


def table_rows(outcome: Outcome, name: str) -> list[tuple[str, ...]]:
    """Return the cells of a smoke run for the columns `COLUMNS`, followed by those of its stages."""
    return [_row(outcome, name), *map(_stage_row, outcome.facts.stages)]


def verdict_table(outcomes: Iterable[Outcome], *, width: int = WIDTH) -> list[tuple[str, str]]:
    """Render the closing table: its lines, each with what colours it (empty for the header).

    Leaves out the columns of `DROPPED` one by one until the table fits `width`.
    """
    ordered = sorted(outcomes, key=lambda outcome: outcome.id)
    names = short_ids([outcome.id for outcome in ordered])
    rows: list[tuple[str, ...]] = []
    styles = [""]
    for outcome in ordered:
        own = table_rows(outcome, names[outcome.id])
        rows += own
        styles += [style(outcome)] * len(own)
    table = fitted_table(COLUMNS, rows, width, dropped=DROPPED)
    excess = max(len(line) for lines in table for line in lines) - width
    if excess > 0:  # ids of tests can be longer than a line
        longest = max(len(row[1]) for row in rows)
        rows = [(row[0], _cropped(row[1], longest - excess), *row[2:]) for row in rows]
        table = fitted_table(COLUMNS, rows, width, dropped=DROPPED)
    return [(line, colour) for lines, colour in zip(table, styles, strict=True) for line in lines]


def warnings(outcomes: Iterable[Outcome], *, width: int = WIDTH, verbose: bool = False) -> list[str]:
    """Render the warnings of the promoted smoke runs, one paragraph each; `verbose` adds their hints."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.id)
    names = short_ids([outcome.id for outcome in ordered])
    lines: list[str] = []
    for outcome in ordered:
        for finding in outcome.findings:
            if outcome.promoted and finding.status == "warn":
                lines += wrap(f"{names[outcome.id]}: {finding.id}: {finding.text}", width, first="warning: ")
                lines += wrap(finding.hint, width, first="  hint: ", rest=" " * 8) if verbose and finding.hint else []
    return lines


def unchecked(outcomes: Iterable[Outcome], *, width: int = WIDTH, verbose: bool = False) -> list[str]:
    """Render which checks of the promoted smoke runs were not made: their number, and with `verbose` each with why."""
    ordered = sorted((outcome for outcome in outcomes if outcome.promoted), key=lambda outcome: outcome.id)
    names = short_ids([outcome.id for outcome in ordered])
    lines: list[str] = []
    sharing: dict[int, list[str]] = {}
    for outcome in ordered:
        found = [finding for finding in outcome.findings if finding.status == "not-checked"]
        if not found:
            continue
        if not verbose:
            sharing.setdefault(len(found), []).append(names[outcome.id])
            continue
        by_reason: dict[str, list[str]] = {}
        for finding in found:
            by_reason.setdefault(finding.text.removeprefix(f"{NOT_CHECKED}: "), []).append(finding.id)
        for why, ids in by_reason.items():
            lines += wrap(f"{names[outcome.id]}: {NOT_CHECKED}: {', '.join(ids)}: {why}", width)
    for number_of_checks, runs in sorted(sharing.items()):
        whose = runs[0] if len(runs) == 1 else f"each of {len(runs):,} promoted smoke runs"
        lines += wrap(f"{whose}: {count(number_of_checks, 'check')} {NOT_CHECKED}; -v lists them", width)
    return lines


def not_shown(outcomes: Iterable[Outcome], *, width: int = WIDTH) -> list[str]:
    """Render which effects of the full runs' devices the smoke runs could not show; those of equal runs once."""
    ordered = sorted((outcome for outcome in outcomes if outcome.facts.not_shown), key=lambda outcome: outcome.id)
    names = short_ids([outcome.id for outcome in ordered])
    by_text: dict[str, list[str]] = {}
    for outcome in ordered:
        for text in outcome.facts.not_shown:
            by_text.setdefault(text, []).append(names[outcome.id])
    return [line for text, runs in by_text.items() for line in wrap(f"{listed(runs)}: not shown: {text}", width)]


def properties(outcome: Outcome) -> list[tuple[str, Any]]:
    """Return the properties of a JUnit `<testcase>`: verdict, figures that are known, and the status of each check."""
    facts = outcome.facts
    figures = {
        "smoke_step": outcome.step,
        "smoke_steps": facts.steps,
        "smoke_evidence_steps": facts.evidence_steps,
        "smoke_loss_first": facts.loss_first,
        "smoke_loss_last": facts.loss_last,
        "smoke_smallest_rise": facts.smallest_rise,
        "smoke_smallest_rise_share": facts.smallest_rise_share,
        "smoke_seconds": facts.seconds,
        "smoke_device": facts.device,
    }
    return [
        ("smoke_verdict", label(outcome) if outcome.completed else outcome.verdict),
        ("smoke_reason", outcome.reason),
        ("smoke_text", outcome.text),
        *((name, value) for name, value in figures.items() if value is not None),
        *(_status_property(finding.id, finding.status) for finding in outcome.findings),
        *(
            (f"smoke_not_checked[{finding.id}]", finding.text.removeprefix(f"{NOT_CHECKED}: "))
            for finding in outcome.findings
            if finding.status == "not-checked"
        ),
    ]


@lru_cache(maxsize=1024)
def _status_property(finding_id: str, status: str) -> tuple[str, str]:
    """Return the property of a check, one object for all runs: pytest keeps those of every test."""
    return f"smoke_check[{finding_id}]", status


def _cropped(name: str, length: int) -> str:
    """Return the end of a name that is longer than `length`, which tells it from the others; at least `MIN_CELL`."""
    length = max(length, MIN_CELL)
    return name if len(name) <= length else f"...{name[3 - length :]}"


def _finding_rows(outcome: Outcome, width: int, *, verbose: bool) -> list[str]:
    shown = [
        finding
        for finding in outcome.findings
        if verbose or finding.status in ("fail", "warn") or finding.id == outcome.decided_by
    ]
    indent = max((len(STATUS_WORDS[finding.status]) for finding in shown), default=0)
    lines: list[str] = []
    for finding in shown:
        repeated = finding.id == outcome.decided_by and finding.text == outcome.text
        text = "see above" if repeated else finding.text.removeprefix(f"{NOT_CHECKED}: ")
        first = f"  {STATUS_WORDS[finding.status].ljust(indent)}  "
        lines += wrap(f"{finding.id}: {text}", width, first=first, rest=" " * (len(first) + 2))
    hidden = [finding.status for finding in outcome.findings if finding not in shown]
    passed, unchecked = hidden.count("pass"), hidden.count("not-checked")
    counts = [f"{count(passed, 'check')} passed"] if passed else []
    counts += (
        [f"{unchecked} not checked" if passed else f"{count(unchecked, 'check')} not checked"] if unchecked else []
    )
    return [*lines, f"  {', '.join(counts)}; -v lists them"] if counts else lines


def by_gravity(outcome: Outcome) -> list[Finding]:
    """Order the findings: the deciding one first, then failed, not checked, warned and passed ones."""
    return sorted(outcome.findings, key=lambda f: (f.id != outcome.decided_by, _GRAVITY.index(f.status)))


def _shows_rises(outcome: Outcome) -> bool:
    """Tell whether the run trained, and its curve was judged: a dead one cannot rise, and a wiring run is too short."""
    judged = all(finding.status in ("pass", "warn") for finding in outcome.findings if finding.check == "loss-trend")
    dead = any(finding.status == "fail" for finding in outcome.findings if finding.check in ("learning", "updates"))
    return outcome.verdict in ("promote", "hold") and outcome.mode != "wiring" and judged and not dead


def _row(outcome: Outcome, name: str) -> tuple[str, ...]:
    facts = outcome.facts
    rise = facts.smallest_rise_share if _shows_rises(outcome) else None
    full = facts.estimated_full_seconds if outcome.promoted else None
    return (
        label(outcome),
        name,
        _steps(facts.steps or 0, facts.planned_steps or 0),
        str(facts.evidence_steps or 0) if facts.steps else "-",
        _losses(facts.loss_first, facts.loss_last),
        "-" if rise is None else percent(rise),
        "-" if facts.seconds is None else seconds(facts.seconds),
        "-" if full is None else f"about {seconds(full)}",
    )


def _stage_row(stage: StageFacts) -> tuple[str, ...]:
    """Render a stage, below its smoke run: the verdict on its loss, or that its criteria failed."""
    judged = "wiring ok" if stage.loss_verdict == "wiring" else stage.loss_verdict or "not started"
    return (
        f"  {'criteria failed' if stage.criteria == 'fail' else judged}",
        f"  stage {stage.name}",
        _steps(stage.steps, stage.planned_steps),
        str(stage.evidence_steps) if stage.steps else "-",
        _losses(stage.loss_first, stage.loss_last),
        "",
        "-" if stage.train_seconds is None else seconds(stage.train_seconds),
        "",
    )


def _steps(made: int, planned: int) -> str:
    return str(made) if made == planned else f"{made}/{planned}"


def _losses(first: float | None, last: float | None) -> str:
    # `verdicts.json` has no number for NaN and infinities: there they are texts, which `float` reads.
    return "-" if first is None or last is None else f"{number(float(first))} -> {number(float(last))}"
