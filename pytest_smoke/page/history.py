"""The page of a history: all smoke runs, those that drift first, and then each of them over the sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

from pytest_smoke.history.read import Point
from pytest_smoke.history.trend import History, Trend, short_commit
from pytest_smoke.page.html import Html, document, join, scrolling, table, tag
from pytest_smoke.page.report import DETAILED, SCRIPTS, filters, layout
from pytest_smoke.page.series import rounded
from pytest_smoke.page.sparkline import sparkline
from pytest_smoke.page.verdict import badge
from pytest_smoke.report.history import TOO_FEW, margin_text
from pytest_smoke.report.layout import short_ids
from pytest_smoke.text import count, number, seconds, verdict_label

COLUMNS = (
    ("newest verdict", ""),
    ("smoke run", ""),
    ("loss by session", ""),
    ("loss", "num loss"),
    ("margin", "num steps"),
    ("time", "num time"),
)
"""Columns of the overview, with their classes."""
LISTED = 100
"""Sessions in the table of a smoke run, the newest ones: 50 smoke runs in 300 sessions would be 15,000 rows. The plots
have all."""
CHANGES = 3
"""Changes that are named at the first session of a series in a plot; the table has all."""
FIGURES: tuple[tuple[str, Callable[[Point], float | None]], ...] = (
    ("Loss at the end", lambda point: point.loss),
    ("Time in seconds", lambda point: point.seconds),
    ("Samples per second", lambda point: point.samples_per_second),
)
"""Plots below that of the margins."""


def history_page(history: History) -> str:
    """Render the page."""
    names = short_ids([trend.id for trend in history.trends])
    data: dict[str, Any] = {}
    rows, sections = [], []
    for at, trend in enumerate(history.trends):
        rows.append(_row(trend, name=names[trend.id], at=at))
        if at < DETAILED:
            plots = trend_plots(trend)
            if plots["panels"]:
                data[f"plots-{at}"] = plots
            sections.append(_section(trend, name=names[trend.id], at=at, has_plots=bool(plots["panels"])))
    smoke_runs, sessions = count(len(history.trends), "smoke run"), count(history.sessions, "session")
    drifting = len({one.id for one in history.drifting})
    verb = "drifts" if drifting == 1 else "drift"
    found = f"{drifting:,} {verb} towards a limit" if drifting else "none drifts" if history.tested else TOO_FEW
    summary = f"{smoke_runs} in {sessions}: {found}"
    head = tag("thead", tag("tr", *(tag("th", name, scope="col", class_=style or None) for name, style in COLUMNS)))
    caption = tag("caption", "All smoke runs, those that drift first", class_="visually-hidden")
    overview = scrolling(tag("table", caption, head, tag("tbody", *rows)), "Overview of all smoke runs")
    main = (
        *_notes(history.notes),
        filters(Counter(trend.points[-1].verdict for trend in history.trends)) if len(rows) > 1 else "",
        tag("section", overview, class_="card overview", aria_label="Overview"),
        tag("section", *sections, id="runs", aria_label="Smoke runs", class_="runs", tabindex="-1"),
    )
    title = "Smoke runs over time"
    return document(f"{title}: {summary}", layout(title, summary, main), data=data, scripts=SCRIPTS)


def trend_plots(trend: Trend) -> dict[str, Any]:
    """Return the data of a smoke run's plots: a line for each figure and series, over the sessions from 1 on."""
    margins = sorted({name for point in trend.points for name in point.margins})
    panels = []
    if margins:
        lines = [line for name in margins for line in _lines(trend, name, _margin(name))]
        limit = {"y": 0, "text": "limit"}
        panels.append({"title": "Margin, share of the limit", "series": lines, "wide": True, "levels": [limit]})
    for title, value in FIGURES:
        if lines := list(_lines(trend, "", value)):
            panels.append({"title": title, "series": lines, "wide": not panels})
    return {
        "unit": "session",
        "noun": "session",
        "labels": [_label(at, point) for at, point in enumerate(trend.points, start=1)],
        "marks": list(_marks(trend)),
        "panels": panels,
    }


def _margin(name: str) -> Callable[[Point], float | None]:
    return lambda point: point.margins[name].left if name in point.margins else None


def _lines(trend: Trend, name: str, value: Callable[[Point], float | None]) -> Iterator[dict[str, Any]]:
    """Yield a line for each series, the current ones in full colour; its name has the number if there are several."""
    current = trend.current
    for series in range(len(trend.series)):
        points = [
            (at, found)
            for at, (point, number) in enumerate(zip(trend.points, trend.series_of, strict=True), start=1)
            if number == series and (found := value(point)) is not None
        ]
        if not points:
            continue
        several = f"series {series + 1}" if len(trend.series) > 1 else ""
        places = [at for at, _ in points]
        yield {
            "name": ", ".join(part for part in (name, several) if part) or "value",
            "kind": "points" if series in current else "raw",
            "exact": True,
            "x": [places[0], *(after - before for before, after in pairwise(places))],
            "y": [rounded(found) for _, found in points],
        }


def _marks(trend: Trend) -> Iterator[dict[str, Any]]:
    """Yield the first session of each series, and the first of consecutive sessions that were not promoted."""
    for at, series in enumerate(trend.series):
        if at:
            more = f" and {len(series.changes) - CHANGES} more" if len(series.changes) > CHANGES else ""
            changes = ", ".join(series.changes[:CHANGES])
            yield {"x": series.first + 1, "text": f"series {at + 1}: {changes}{more}", "kind": "stage"}
    place = 1
    for word, points in groupby(point.verdict for point in trend.points):
        length = sum(1 for _ in points)
        if word != "promote":
            yield {"x": place, "text": word if length == 1 else f"{word}, {length} sessions", "kind": "verdict"}
        place += length


def _label(at: int, point: Point) -> str:
    """Name a session: its number, start, commit and verdict."""
    parts = (f"session {at}", _day(point), short_commit(point.commit), verdict_label(point.verdict, point.reason))
    return " · ".join(part for part in parts if part)


def _day(point: Point) -> str:
    return point.started.strftime("%Y-%m-%d %H:%M")


def _row(trend: Trend, *, name: str, at: int) -> Html:
    newest, nearest = trend.points[-1], trend.nearest()
    current = next((number for number in reversed(trend.series_of) if number is not None), None)
    losses = [point.loss for point, number in zip(trend.points, trend.series_of, strict=True) if number == current]
    shown = tag("a", name, href=f"#run-{at}", class_="name") if at < DETAILED else tag("span", name, class_="name")
    sentence = "; ".join(one.text for one in trend.drifting) or newest.text
    return tag(
        "tr",
        tag("td", badge(newest.verdict, newest.verdict), tag("div", newest.reason, class_="reason")),
        tag("th", shown, *_drift_badge(trend), tag("div", sentence, class_="sentence"), scope="row"),
        tag("td", sparkline([loss for loss in losses if loss is not None])),
        tag("td", "" if newest.loss is None else number(newest.loss), class_="num loss"),
        tag("td", "" if nearest is None else margin_text(nearest[1].left, nearest[1].bound), class_="num steps"),
        tag("td", "" if newest.seconds is None else seconds(newest.seconds), class_="num time"),
        data_run=at,
        data_verdict=newest.verdict,
    )


def _drift_badge(trend: Trend) -> tuple[object, ...]:
    return (" ", badge("hold", "drifts")) if trend.drifting else ()


def _section(trend: Trend, *, name: str, at: int, has_plots: bool) -> Html:
    """Return the part of one smoke run."""
    newest = trend.points[-1]
    aside = f"{count(len(trend.points), 'session')} · {_day(trend.points[0])} to {_day(newest)}"
    summary = tag(
        "summary",
        badge(newest.verdict, verdict_label(newest.verdict, newest.reason)),
        tag("h2", name),
        *_drift_badge(trend),
        tag("span", aside, class_="aside"),
    )
    values = tag("noscript", "Plots need JavaScript. The table of sessions has the values.")
    body = tag(
        "div",
        *(tag("p", one.text, class_="note") for one in trend.drifting),
        tag("p", newest.text, class_=f"lead {newest.verdict}"),
        tag("div", values, class_="plots", data_plots=f"plots-{at}") if has_plots else "",
        _series_table(trend, name),
        _sessions_table(trend, name),
        class_="body",
    )
    return tag("details", summary, body, class_="run card", id=f"run-{at}", open=at == 0, data_verdict=newest.verdict)


def _series_table(trend: Trend, name: str) -> Html:
    """Return what changed from series to series; nothing if all sessions can be compared."""
    if len(trend.series) < 2:
        return Html("")
    rows = [
        (
            f"{at:,}",
            f"{series.first + 1:,}",
            _day(trend.points[series.first]),
            short_commit(trend.points[series.first].commit),
            ", ".join(series.changes) or "first",
        )
        for at, series in enumerate(trend.series, start=1)
    ]
    header = ("series", "from session", "started", "commit", "what changed")
    return table(f"Series of {name}: only runs of one series are compared", header, rows, numeric=(0, 1))


def _sessions_table(trend: Trend, name: str) -> Html:
    """Return the newest sessions."""
    rows = []
    for at in reversed(range(max(0, len(trend.points) - LISTED), len(trend.points))):
        point, series = trend.points[at], trend.series_of[at]
        nearest = min(point.margins.items(), key=lambda one: one[1].left, default=None)
        rows.append(
            (
                f"{at + 1:,}",
                point.session,
                _day(point),
                short_commit(point.commit),
                badge(point.verdict, verdict_label(point.verdict, point.reason)),
                "" if series is None else f"{series + 1:,}",
                "" if point.loss is None else number(point.loss),
                "" if nearest is None else margin_text(nearest[1].left, nearest[1].bound),
                "" if nearest is None else nearest[0],
                "" if point.seconds is None else seconds(point.seconds),
                "" if point.samples_per_second is None else number(point.samples_per_second),
            )
        )
    header = ("session", "folder", "started", "commit", "verdict", "series", "loss", "margin", "nearest limit")
    whole = table(
        f"Sessions of {name}, the newest first", (*header, "time", "samples/s"), rows, numeric=(0, 5, 6, 7, 9, 10)
    )
    title = f"All {count(len(rows), 'session')}"
    if len(rows) < len(trend.points):
        title = f"The newest {len(rows)} of {len(trend.points):,} sessions"
    return tag("details", tag("summary", title), whole, class_="fold")


def _notes(notes: Sequence[str]) -> Iterator[Html]:
    """Yield what was left out; many notes are folded."""
    lines = [tag("p", note, class_="note") for note in notes]
    if len(lines) <= CHANGES:
        yield from lines
    else:
        yield tag("details", tag("summary", f"{len(lines):,} notes"), join(lines), class_="fold")
