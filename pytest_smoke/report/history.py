"""The history of smoke runs as a table for a terminal, and the margins that drift as sentences."""

from __future__ import annotations

from pytest_smoke.history.drift import FEWEST_POINTS
from pytest_smoke.history.trend import History, Trend, short_commit
from pytest_smoke.report.layout import WIDTH, fitted_table, short_ids, wrap
from pytest_smoke.text import count, number, percent, seconds, verdict_label

HEADER = ("smoke run", "runs", "newest verdict", "loss", "time", "margin", "nearest limit", "commit")
DROPPED = ("commit", "time", "loss")
"""Columns that are left out of a table too wide for the terminal, the first one first."""

TOO_FEW = f"too few to tell a drift from chance. That takes {FEWEST_POINTS} comparable runs with different margins"
"""What is said instead of `no drift` if nothing could be tested."""


def history_text(history: History, *, width: int = WIDTH) -> str:
    """Render a row for each smoke run, then a sentence for each margin that drifts."""
    names = short_ids([trend.id for trend in history.trends])
    rows = [_row(trend, names[trend.id]) for trend in history.trends]
    wrapped = ("smoke run", "newest verdict", "nearest limit")
    lines = [line for row in fitted_table(HEADER, rows, width, wrapped=wrapped, dropped=DROPPED) for line in row]
    for one in history.drifting:
        lines += ["", *wrap(f"drift: {names[one.id]}: {one.text}", width)]
    smoke_runs, sessions = count(len(history.trends), "smoke run"), count(history.sessions, "session")
    if not history.drifting:
        found = "no margin drifts towards its limit" if history.tested else TOO_FEW
        lines += ["", *wrap(f"{smoke_runs} in {sessions}: {found}", width)]
    return "\n".join(lines) + "\n"


def margin_text(left: float, bound: float) -> str:
    """Format a margin: a share of its limit, or the distance itself where the limit is 0."""
    return percent(left) if bound else number(left)


def _row(trend: Trend, name: str) -> tuple[str, ...]:
    newest, nearest = trend.points[-1], trend.nearest()
    return (
        name,
        f"{len(trend.points):,}",
        verdict_label(newest.verdict, newest.reason),
        "-" if newest.loss is None else number(newest.loss),
        "-" if newest.seconds is None else seconds(newest.seconds),
        "-" if nearest is None else margin_text(nearest[1].left, nearest[1].bound),
        "-" if nearest is None else nearest[0],
        short_commit(newest.commit) or "-",
    )
