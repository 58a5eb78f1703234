"""One smoke run of the page: its verdict, findings, facts and recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_smoke.outcome import Facts, Finding, Outcome, StageFacts
from pytest_smoke.page.html import Html, join, table, tag
from pytest_smoke.page.verdict import badge
from pytest_smoke.report.acceptance import HEADER, acceptance_rows
from pytest_smoke.report.terminal import label, style
from pytest_smoke.text import NOT_CHECKED, STATUS_WORDS, count, number, percent, seconds

_GRAVITY = ("fail", "not-checked", "warn", "pass")
LONG_FACT = 28
"""Characters from which a fact gets a line of its own."""
HINTS = 3
"""Hints below the verdict, at most; all of them are in the table of findings."""


def run_section(
    outcome: Outcome,
    *,
    name: str,
    at: int,
    plots: Html,
    notes: Sequence[str],
    opened: bool,
    remarks: Sequence[str] = (),
    recipe_in: tuple[int, str] | None = None,
) -> Html:
    """Return the part of the page about one run.

    `at`: its number on the page. `plots`: what comes below its verdict. `notes`: what the page lacks, and why.
    `remarks`: how a log was read. `recipe_in`: number and name of the run that shows the same recipe.
    """
    facts = outcome.facts
    summary = tag(
        "summary",
        badge(style(outcome), label(outcome)),
        tag("h2", name),
        tag("span", _aside(outcome), class_="aside"),
    )
    body = tag(
        "div",
        tag(
            "div",
            tag("p", outcome.text, class_=f"lead {style(outcome)}"),
            *(tag("p", hint, class_="hint") for hint in _hints(outcome)),
        ),
        *(tag("p", note, class_="note") for note in notes),
        plots,
        findings_tables(outcome),
        _acceptance(outcome),
        _stages(facts.stages),
        facts_list(outcome),
        _fold("How the log was read", tag("ul", *(tag("li", remark) for remark in remarks))) if remarks else "",
        _fold("Settings", _settings(facts)),
        _fold(f"Recipe {outcome.recipe}", _text(facts.recipe_text or "") if recipe_in is None else _see(*recipe_in)),
        _fold("Last output of the training process", _text(outcome.output)),
        class_="body",
    )
    return tag("details", summary, body, class_="run card", id=f"run-{at}", open=opened, data_verdict=style(outcome))


def unreadable_section(outcome: Outcome, *, name: str, at: int, why: str) -> Html:
    """Return the part of a run whose outcome has values of the wrong types."""
    note = f"The outcome of this run is damaged and cannot be shown: {why}"
    return run_section(outcome, name=name, at=at, plots=Html(""), notes=[note], opened=False)


def findings_tables(outcome: Outcome) -> Html:
    """Return the table of findings that need attention, the deciding one first, and the folded one of the others."""
    ordered = _by_gravity(outcome)
    shown = [one for one in ordered if one.status in ("fail", "warn") or one.id == outcome.decided_by]
    others = [one for one in ordered if one not in shown]
    statuses = Counter(one.status for one in others)
    counted = [f"{count(statuses['pass'], 'check')} passed"] if statuses["pass"] else []
    unchecked = statuses["not-checked"]
    counted += [f"{unchecked:,} {NOT_CHECKED}" if counted else f"{count(unchecked, 'check')} {NOT_CHECKED}"] * bool(
        unchecked
    )
    return join(
        (
            _findings("Findings", shown, outcome) if shown else "",
            _fold(", ".join(counted), _findings("Other findings", others, outcome)) if others else "",
        )
    )


def _findings(caption: str, findings: Sequence[Finding], outcome: Outcome) -> Html:
    header = ("check", "status", "what was found", "observed", "bound", "step", "place")
    rows = [_finding_row(finding, outcome) for finding in findings]
    return tag("div", table(caption, header, rows, numeric=(3, 4, 5)), class_="findings")


def _by_gravity(outcome: Outcome) -> list[Finding]:
    """Order the findings: the deciding one first, then by their status."""
    return sorted(outcome.findings, key=lambda one: (one.id != outcome.decided_by, _GRAVITY.index(one.status)))


def facts_list(outcome: Outcome) -> Html:
    """Return what is known of a run, as names with values: short ones first."""
    facts = [("id", outcome.id), *_facts(outcome.facts)]
    known = sorted(((name, value) for name, value in facts if value), key=lambda fact: len(fact[1]) > LONG_FACT)
    rows = (
        tag("div", tag("dt", name), tag("dd", value), class_="wide" if len(value) > LONG_FACT else None)
        for name, value in known
    )
    return join((tag("h3", "Facts"), tag("dl", *rows, class_="facts"))) if known else Html("")


def figure(value: Any, digits: int = 4) -> str:
    """Format what a check measured or allows: a number, a range, or names with numbers."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value, digits)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {figure(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join("any" if part is None else figure(part) for part in value)
    return str(value)


def time_of(facts: Facts) -> str:
    """Format the wall time of a run; empty if it is not known."""
    return "" if facts.seconds is None else seconds(float(facts.seconds))


def steps_of(facts: Facts) -> str:
    """Format the steps made, with those that were planned if they differ."""
    made, planned = facts.steps or 0, facts.planned_steps or 0
    if not made:
        return ""
    return f"{made:,}" if made == planned or not planned else f"{made:,} / {planned:,}"


def loss_of(facts: Facts) -> str:
    """Format the loss at the beginning and at the end."""
    if facts.loss_first is None or facts.loss_last is None:
        return ""
    return f"{number(float(facts.loss_first))} → {number(float(facts.loss_last))}"


def _aside(outcome: Outcome) -> str:
    parts = (steps_of(outcome.facts), loss_of(outcome.facts), time_of(outcome.facts))
    return " · ".join(
        text
        for name, text in zip(("steps", "loss", ""), parts, strict=True)
        for text in [f"{name} {text}".strip()]
        if text != name
    )


def _hints(outcome: Outcome) -> list[str]:
    ordered = _by_gravity(outcome)
    return list(dict.fromkeys(one.hint for one in ordered if one.hint and one.status in ("fail", "not-checked")))[
        :HINTS
    ]


def _finding_row(finding: Finding, outcome: Outcome) -> tuple[object, ...]:
    status = tag("span", STATUS_WORDS[finding.status], class_=f"status status-{finding.status}")
    decides = finding.id == outcome.decided_by and finding.text == outcome.text
    shown = finding.hint if finding.hint not in _hints(outcome) else ""
    hint = tag("div", shown, class_="hint") if shown else ""
    return (
        tag("span", finding.id, class_="mono"),
        status,
        tag("div", "see above" if decides else finding.text, hint, class_="text"),
        figure(finding.observed),
        figure(finding.bound),
        "" if finding.step is None else f"{finding.step:,}",
        tag("span", finding.place or finding.key, class_="mono"),
    )


def _acceptance(outcome: Outcome) -> Html:
    rows = acceptance_rows(outcome) if outcome.facts.full_accept else []
    return table("Acceptance", HEADER, rows, numeric=(2,)) if rows else Html("")


def _stages(stages: tuple[StageFacts, ...]) -> Html:
    if not stages:
        return Html("")
    rows = (
        (
            stage.name,
            stage.loss_verdict or "not started",
            stage.criteria or "",
            f"{stage.first_step:,}",
            f"{stage.steps:,} / {stage.planned_steps:,}",
            f"{stage.evidence_steps:,}",
            figure(_as_float(stage.loss_first)),
            figure(_as_float(stage.loss_last)),
        )
        for stage in stages
    )
    header = ("stage", "loss", "criteria", "first step", "steps", "evidence", "loss first", "loss last")
    return table("Stages", header, rows, numeric=range(3, 8))


def _facts(facts: Facts) -> Iterator[tuple[str, str]]:
    yield "device", " · ".join(dict.fromkeys(text for text in (facts.device, facts.device_name) if text))
    yield "processes", "" if facts.launched_world_size is None else f"{facts.launched_world_size:,}"
    yield "not shown", "; ".join(facts.not_shown)
    yield "steps", steps_of(facts) + ("" if facts.full_steps is None else f" of a full run of {facts.full_steps:,}")
    if facts.evidence_steps is not None:
        needed = "" if facts.evidence_needed_steps is None else f" ({facts.evidence_needed_steps:,} needed)"
        yield "evidence steps", f"{facts.evidence_steps:,}{needed}"
    if facts.smallest_rise_share is not None:
        yield "smallest detectable rise", percent(float(facts.smallest_rise_share))
    yield (
        "effective batch",
        "" if facts.effective_batch_samples is None else count(facts.effective_batch_samples, "sample"),
    )
    yield "peak learning rate", "" if facts.learning_rate is None else f"{facts.learning_rate:g}"
    yield "precision", facts.precision or ""
    yield "seed", "" if facts.seed is None else str(facts.seed)
    yield "wall time", time_of(facts)
    yield "training time", "" if facts.train_seconds is None else seconds(facts.train_seconds)
    yield "throughput", "" if facts.samples_per_second is None else f"{_many(facts.samples_per_second)} samples/s"
    yield "full run, estimated", "" if facts.estimated_full_seconds is None else seconds(facts.estimated_full_seconds)
    yield "peak memory", "" if facts.peak_memory_gib is None else f"{number(facts.peak_memory_gib)} GiB"
    yield "utilization", "" if facts.utilization_percent is None else f"{number(facts.utilization_percent, 3)} %"
    if facts.parameters is not None:
        trainable = facts.parameters if facts.trainable_parameters is None else facts.trainable_parameters
        yield (
            "parameters",
            f"{facts.parameters:,}" + ("" if trainable == facts.parameters else f", {trainable:,} train"),
        )
    yield "resumed at steps", ", ".join(f"{step:,}" for step in facts.resumed_at_steps)
    yield "task", facts.task or ""
    yield "command", " ".join(facts.command)
    yield "started", (facts.started_at or "").replace("T", " ").replace("+00:00", " UTC")
    yield "commit", facts.git_commit or ""
    yield "package", facts.package or ""
    for kept in facts.checkpoints:
        yield f"checkpoint {kept.kind}", f"step {kept.step:,}: {kept.folder}"
    yield "trace", facts.trace or ""
    yield "log", facts.log or ""
    yield from facts.versions.items()


def _settings(facts: Facts) -> Html:
    rows = [*facts.settings.items(), *((f"args.{name}", value) for name, value in facts.args.items())]
    return (
        table("Settings of the smoke run", ("setting", "value"), [(name, figure(value, 6)) for name, value in rows])
        if rows
        else Html("")
    )


def _text(text: str) -> Html:
    return tag("pre", text, tabindex=0) if text else Html("")


def _see(at: int, name: str) -> Html:
    return tag("p", "The text is shown in ", tag("a", name, href=f"#run-{at}", class_="name"))


def _many(value: float) -> str:
    """Format a number that may be in the thousands: `57,800`."""
    return f"{float(number(value)):,.0f}" if 1000 <= value < 1e12 else number(value)


def _fold(title: str, content: Html) -> Html:
    return tag("details", tag("summary", title), content, class_="fold") if content else Html("")


def _as_float(value: float | None) -> float | None:
    """Return a number of `verdicts.json`, in which NaN and infinities are texts."""
    return None if value is None else float(value)
