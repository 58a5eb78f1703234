"""The page of a report: all smoke runs, worst first, and then each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_smoke.outcome import Outcome
from pytest_smoke.page.html import Html, document, join, scrolling, tag, theme_switch
from pytest_smoke.page.run import loss_of, run_section, steps_of, time_of
from pytest_smoke.page.sparkline import sparkline
from pytest_smoke.page.verdict import badge
from pytest_smoke.report.layout import short_ids
from pytest_smoke.report.order import WORST_FIRST, worst_first
from pytest_smoke.report.terminal import label, style
from pytest_smoke.text import count

SCRIPTS = ("report.js",)
HEADER = (
    ("verdict", ""),
    ("smoke run", ""),
    ("loss curve", ""),
    ("loss", "num loss"),
    ("steps", "num steps"),
    ("time", "num time"),
)
"""Columns of the overview, with their classes."""


def report_page(outcomes: Sequence[Outcome], folder: Path) -> str:
    """Render `index.html` from the outcomes of a session and the traces in its report folder."""
    return page(outcomes)


def page(outcomes: Sequence[Outcome]) -> str:
    """Render the page."""
    ordered = worst_first(outcomes)
    names = short_ids([outcome.id for outcome in ordered])
    rows = [overview_row(outcome, name=names[outcome.id], at=at) for at, outcome in enumerate(ordered)]
    runs = [
        run_section(outcome, name=names[outcome.id], at=at, plots=Html(""), notes=(), opened=at == 0)
        for at, outcome in enumerate(ordered)
    ]
    verdicts = Counter(style(outcome) for outcome in ordered)
    counted = ", ".join(f"{verdicts[word]:,} {word}" for word in WORST_FIRST if verdicts[word])
    title = f"{count(len(ordered), 'smoke run')}" + (f": {counted}" if counted else "")
    data: dict[str, Any] = {}
    body = join(
        (
            tag("a", "Skip to the smoke runs", href="#runs", class_="skip"),
            tag(
                "header",
                tag("div", tag("h1", "Smoke runs"), tag("p", title, class_="muted")),
                theme_switch(),
                class_="top",
            ),
            tag(
                "main",
                filters(verdicts),
                tag("section", overview(rows), class_="card overview", aria_label="Overview"),
                tag("section", *runs, id="runs", aria_label="Smoke runs", class_="runs"),
            ),
        ),
        "\n",
    )
    return document(title, body, data=data, scripts=SCRIPTS)


def overview(rows: Sequence[Html]) -> Html:
    """Return the table of all smoke runs."""
    head = tag("thead", tag("tr", *(tag("th", name, scope="col", class_=style or None) for name, style in HEADER)))
    caption = tag("caption", "All smoke runs, worst first", class_="visually-hidden")
    return scrolling(tag("table", caption, head, tag("tbody", *rows)), "Overview of all smoke runs")


def overview_row(outcome: Outcome, *, name: str, at: int) -> Html:
    """Return the row of one run."""
    losses = [float(value) for value in outcome.curve.get("loss", [])]
    facts = outcome.facts
    return tag(
        "tr",
        tag("td", badge(style(outcome), _word(outcome)), tag("div", outcome.reason, class_="reason")),
        tag(
            "th",
            tag("a", name, href=f"#run-{at}", class_="name"),
            tag("div", outcome.text, class_="sentence"),
            scope="row",
        ),
        tag("td", sparkline(losses)),
        tag("td", loss_of(facts), class_="num loss"),
        tag("td", steps_of(facts), class_="num steps"),
        tag("td", time_of(facts), class_="num time"),
        data_run=at,
        data_verdict=style(outcome),
    )


def _word(outcome: Outcome) -> str:
    """Return the verdict, or that a run completed without one."""
    return label(outcome) if outcome.completed else outcome.verdict


def filters(verdicts: Counter[str]) -> Html:
    """Return the controls that choose runs by verdict and text; hidden while scripts are off."""
    chips = (
        tag(
            "label",
            tag("input", type="checkbox", checked=True, value=word),
            badge(word, f"{word} {verdicts[word]:,}"),
            class_="chip",
        )
        for word in WORST_FIRST
        if verdicts[word]
    )
    return tag(
        "fieldset",
        tag("legend", "Filter the smoke runs", class_="visually-hidden"),
        *chips,
        tag("input", type="search", id="search", placeholder="Filter by text", aria_label="Filter smoke runs by text"),
        tag("span", "", id="shown", class_="muted", role="status"),
        class_="filters",
        id="filters",
        hidden=True,
    )
