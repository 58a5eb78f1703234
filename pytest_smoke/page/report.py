"""The page of a report: all smoke runs, worst first, and then each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_smoke.bisect.result import BisectResult
from pytest_smoke.environment import DISTRIBUTION, version_of
from pytest_smoke.outcome import Outcome
from pytest_smoke.page.html import LIBRARY, Html, document, join, scrolling, table, tag, theme_switch
from pytest_smoke.page.plots import plot_data
from pytest_smoke.page.run import loss_of, run_section, steps_of, time_of, unreadable_section
from pytest_smoke.page.series import BUCKETS, DIGITS
from pytest_smoke.page.sparkline import sparkline
from pytest_smoke.page.trace import Trace, TraceError, read_trace
from pytest_smoke.page.verdict import badge
from pytest_smoke.plain import exception_text
from pytest_smoke.report.ablations import ablations
from pytest_smoke.report.bisect import HEADER as BISECT_HEADER
from pytest_smoke.report.bisect import trial_rows
from pytest_smoke.report.layout import short_ids
from pytest_smoke.report.order import WORST_FIRST, worst_first
from pytest_smoke.report.terminal import label, style
from pytest_smoke.text import count, listed

INDEX = "index.html"
"""Name of the page in a report folder."""
SCRIPTS = (LIBRARY, "plots.js", "report.js")
FOOTNOTE = (
    f"Plots show the lowest and the highest value of each of {BUCKETS} parts of a run, rounded to {DIGITS} digits; a "
    "cross marks what is not finite."
)
"""What every reader of a plot should know."""
DETAILED = 500
"""Runs that have a section of their own, the worst ones: a browser needs half a minute for 10,000 of them."""
COLUMNS = (
    ("verdict", ""),
    ("smoke run", ""),
    ("loss curve", ""),
    ("loss", "num loss"),
    ("steps", "num steps"),
    ("time", "num time"),
)
"""Columns of the overview, with their classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRun:
    """A run to show, with the way to its trace: a page of many runs must not hold all traces at once."""

    outcome: Outcome
    read_trace: Callable[[], Trace | None]
    """Returns the values of each step; raises TraceError with a sentence for the page."""
    unit: str = "optimizer step"
    """What a step of the plots is."""
    remarks: tuple[str, ...] = ()
    """What the reader of a log found, guessed or dropped."""


def report_page(outcomes: Sequence[Outcome], folder: Path) -> str:
    """Render `index.html` from the outcomes of a session and the traces in its report folder."""
    return page([run_in(folder, outcome) for outcome in outcomes])


def run_in(folder: Path, outcome: Outcome) -> PageRun:
    """Return a run of a report folder."""
    return PageRun(outcome=outcome, read_trace=lambda: read_trace(folder, outcome.facts))


def page(runs: Sequence[PageRun], *, title: str = "Smoke runs", problems: Sequence[str] = ()) -> str:
    """Render the page. `problems`: sentences on what could not be read."""
    by_id = {run.outcome.id: run for run in runs}
    outcomes = worst_first(run.outcome for run in runs)
    names = short_ids([outcome.id for outcome in outcomes])
    data: dict[str, Any] = {}
    rows, sections, damaged = [], [], set()
    recipes: dict[str, tuple[int, str]] = {}
    for at, outcome in enumerate(outcomes):
        detailed = at < DETAILED
        name = names[outcome.id]
        try:
            rows.append(_overview_row(outcome, name=name, at=at, linked=detailed))
            if detailed:
                text = outcome.facts.recipe_text or ""
                shown = recipes.get(text)
                sections.append(_section(by_id[outcome.id], name=name, at=at, data=data, recipe_in=shown))
                if text:  # all cells of a recipe have the same text, which lists them all
                    recipes.setdefault(text, (at, name))
        except Exception as error:  # a report that was changed by hand must not hide the other runs
            damaged.add(outcome.id)
            del rows[at:], sections[at:]
            rows.append(_overview_row(_bare(outcome), name=name, at=at, linked=detailed))
            if detailed:
                sections.append(unreadable_section(_bare(outcome), name=name, at=at, why=exception_text(error)))
    verdicts = Counter(style(outcome) for outcome in outcomes)
    counted = ", ".join(f"{verdicts[word]:,} {word}" for word in WORST_FIRST if verdicts[word])
    summary = f"{count(len(outcomes), 'run')}" + (f": {counted}" if counted else "")
    notes = [*problems] if outcomes else [*problems, "The session executed no smoke run."]
    if len(outcomes) > DETAILED:
        notes.append(f"Details and plots are shown of the first {DETAILED:,} runs; verdicts.json has those of all.")
    main = (
        *(tag("p", note, class_="note") for note in notes),
        filters(verdicts) if len(outcomes) > 1 else "",
        tag("section", _overview(rows), class_="card overview", aria_label="Overview") if rows else "",
        *_ablations([outcome for outcome in outcomes if outcome.id not in damaged]),
        tag("section", *sections, id="runs", aria_label="Runs", class_="runs", tabindex="-1"),
    )
    return document(
        f"{title}: {summary}",
        layout(title, summary, main, log_switch(), has_plots=bool(data)),
        data=data,
        scripts=SCRIPTS,
    )


def bisect_page(result: BisectResult) -> str:
    """Render the page of a bisect."""
    total = count(len(result.differences), "setting")
    facts = [f"{result.good} is stable, {result.bad} is not; {total} differ"] if result.found else []
    if result.unseen:
        facts.append(
            f"also different, without effect on a smoke run: {listed(result.unseen, limit=len(result.unseen))}"
        )
    rows = [
        (number, badge(trial.verdict, text), step, settings)
        for trial, (number, text, step, settings) in zip(result.tried, trial_rows(result), strict=True)
    ]
    word = "promote" if result.found else "error"
    main = (
        tag("p", result.text, class_=f"lead {word}"),
        *(tag("p", fact) for fact in facts),
        tag(
            "section",
            tag("h2", "Settings that differ"),
            tag("ul", *(tag("li", difference, class_="mono") for difference in result.differences)),
            class_="card padded",
        )
        if result.differences
        else "",
        tag("section", table("Trials", BISECT_HEADER, rows, numeric=(2,)), class_="card padded") if rows else "",
    )
    return document("Bisect", layout("Bisect", f"{result.good} .. {result.bad}", main, has_plots=False))


def layout(title: str, summary: str, main: Sequence[object], *controls: Html, has_plots: bool = True) -> Html:
    """Return the body of a page: its header with the theme switch behind other controls, and its main part."""
    made_by = f"Made by pytest_smoke {version_of(DISTRIBUTION) or ''}".rstrip()
    heading = tag("div", tag("h1", title), tag("p", summary, class_="muted"))
    return join(
        (
            tag("a", "Skip to the content", href="#main", class_="skip"),
            tag("header", heading, *controls, theme_switch(), class_="top"),
            tag("main", *main, id="main", tabindex="-1"),
            tag("footer", f"{made_by}. {FOOTNOTE}" if has_plots else f"{made_by}."),
        ),
        "\n",
    )


def log_switch() -> Html:
    """Return the control that switches all plots to a logarithmic scale; hidden while scripts are off."""
    return tag("button", "Log scale", type="button", id="log", aria_pressed="false", hidden=True)


def _overview(rows: Sequence[Html]) -> Html:
    head = tag("thead", tag("tr", *(tag("th", name, scope="col", class_=style or None) for name, style in COLUMNS)))
    caption = tag("caption", "All runs, worst first", class_="visually-hidden")
    return scrolling(tag("table", caption, head, tag("tbody", *rows)), "Overview of all runs")


def _overview_row(outcome: Outcome, *, name: str, at: int, linked: bool) -> Html:
    losses = [float(value) for value in outcome.curve.get("loss", [])]
    facts = outcome.facts
    shown = tag("a", name, href=f"#run-{at}", class_="name") if linked else tag("span", name, class_="name")
    return tag(
        "tr",
        tag("td", badge(style(outcome), _word(outcome)), tag("div", outcome.reason, class_="reason")),
        tag("th", shown, tag("div", outcome.text, class_="sentence"), scope="row"),
        tag("td", sparkline(losses)),
        tag("td", loss_of(facts), class_="num loss"),
        tag("td", steps_of(facts), class_="num steps"),
        tag("td", time_of(facts), class_="num time"),
        data_run=at,
        data_verdict=style(outcome),
    )


def _section(run: PageRun, *, name: str, at: int, data: dict[str, Any], recipe_in: tuple[int, str] | None) -> Html:
    """Return the part of one run, and add the data of its plots."""
    outcome, notes = run.outcome, []
    try:
        trace = run.read_trace()
    except TraceError as error:
        trace = None
        notes.append(str(error))
    drawn, left_out = plot_data(outcome, trace)
    plots = Html("")
    if drawn is not None:
        data[f"plots-{at}"] = drawn | {"unit": run.unit}
        values = f" The values are in {outcome.facts.trace}." if outcome.facts.trace else ""
        plots = tag("div", tag("noscript", f"Plots need JavaScript.{values}"), class_="plots", data_plots=f"plots-{at}")
    return run_section(
        outcome,
        name=name,
        at=at,
        plots=plots,
        notes=[*notes, *left_out],
        opened=at == 0,
        remarks=run.remarks,
        recipe_in=recipe_in,
    )


def _bare(outcome: Outcome) -> Outcome:
    """Return what can be shown of an outcome whose other values have the wrong types."""
    return Outcome(
        id=outcome.id,
        recipe=str(outcome.recipe),
        mode=str(outcome.mode),
        cell=None,
        verdict=outcome.verdict,
        reason=str(outcome.reason),
        step=None,
        text=str(outcome.text),
        decided_by="",
        findings=(),
    )


def _ablations(outcomes: Sequence[Outcome]) -> list[Html]:
    sections = []
    for found in ablations(outcomes):
        rows = [
            (cell, badge(style(outcome), text), *rest)
            for outcome, (cell, text, *rest) in zip(found.outcomes, found.rows, strict=True)
        ]
        numeric = range(2, len(found.header) - 1)
        content = table(found.title.capitalize(), found.header, rows, numeric=numeric)
        sections.append(tag("section", content, class_="card padded"))
    return sections


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
        tag("legend", "Filter the runs", class_="visually-hidden"),
        *chips,
        tag("input", type="search", id="search", placeholder="Filter by text", aria_label="Filter runs by text"),
        tag("span", "", id="shown", class_="muted", role="status"),
        class_="filters",
        id="filters",
        hidden=True,
    )


def _word(outcome: Outcome) -> str:
    """Return the verdict, or that a run completed without one."""
    return label(outcome) if outcome.completed else outcome.verdict
