"""The trend of every smoke run over the sessions: series of comparable runs, and the margins that drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_smoke.history.drift import Drift, can_be_tested, drifts_of
from pytest_smoke.history.read import Point, read_sessions
from pytest_smoke.text import count, listed, percent

SHORT_COMMIT = 9
"""Characters of a commit that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Runs of one recipe that can be compared: same settings, device, precision and version of torch."""

    conditions: Mapping[str, Any]
    first: int
    """Place of its first point."""
    changes: tuple[str, ...]
    """What differs from the comparable runs before, as `learning_rate 0.003 -> 0.001`; empty for the first series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drifting:
    """A margin that drifts towards its limit."""

    id: str
    """The smoke run."""
    margin: str
    """Name of the margin."""
    observed: float
    """Its newest value."""
    bound: float
    """Its newest limit."""
    drift: Drift
    jump_commit: str
    """Commit of the largest single fall; empty if it is not known, or if no change explains half of the fall."""

    @property
    def text(self) -> str:
        """The finding in words."""
        drift = self.drift
        left = "about " + count(max(round(drift.sessions_left), 1), "session")
        rare = f"1 in {1 / drift.chance:,.0f}" if drift.chance > 1e-6 else "less than 1 in a million"
        text = (
            f"{self.margin}: the margin fell from about {percent(drift.first)} to {percent(max(drift.last, 0.0))} in "
            f"{count(drift.sessions, 'session')} ({rare} by chance). At this rate it reaches the limit in {left}"
        )
        return f"{text}. Most of it came with {self.jump_commit}" if self.jump_commit else text

    def to_dict(self) -> dict[str, Any]:
        """Return a tree of builtins."""
        values = {"id": self.id, "margin": self.margin, "observed": self.observed, "bound": self.bound}
        return {**values, "text": self.text, **asdict(self.drift), "jump_commit": self.jump_commit}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """One smoke run over all sessions."""

    id: str
    points: Sequence[Point]
    """In the order of their start."""
    series_of: Sequence[int | None]
    """Number of each point's series; None if it is in none, because the run never started."""
    series: Sequence[Series]
    drifting: Sequence[Drifting]
    """The margin that is next at its limit comes first."""

    @property
    def current(self) -> list[int]:
        """Numbers of the series that are tested: on each device the one of its newest run."""
        return _current(self.series_of, self.series)

    def nearest(self) -> tuple[str, Any] | None:
        """Return name and value of the smallest margin of the newest point; None if it has none."""
        margins = self.points[-1].margins
        return min(margins.items(), key=lambda one: one[1].left) if margins else None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All smoke runs over all sessions of a folder."""

    trends: Sequence[Trend]
    """Those that drift come first, then by id."""
    sessions: int
    tested: int
    """Margins with enough points to tell a drift from chance."""
    notes: Sequence[str]
    """What was found and left out."""

    @property
    def drifting(self) -> list[Drifting]:
        """All margins that drift."""
        return [one for trend in self.trends for one in trend.drifting]

    def to_dict(self) -> dict[str, Any]:
        """Return a tree of builtins."""
        return {
            "sessions": self.sessions,
            "margins_tested": self.tested,
            "drifting": [one.to_dict() for one in self.drifting],
            "smoke_runs": [_trend_dict(trend) for trend in self.trends],
            "notes": list(self.notes),
        }


def history(folders: Sequence[Path]) -> History:
    """Read the sessions below the folders and return their trends. Raises ReportError if there are none."""
    sessions = read_sessions(folders)
    found, tested = trends(sessions.points)
    return History(trends=found, sessions=sessions.count, tested=tested, notes=sessions.notes)


def trends(points: Mapping[str, Sequence[Point]]) -> tuple[list[Trend], int]:
    """Return the trend of each smoke run, and how many margins had enough points to be tested.

    All margins are tested together, so that the rate of false alarms is theirs. On each device, the series of the
    newest run is tested: older ones are of other settings or versions.
    """
    grouped = {item_id: _series(runs) for item_id, runs in points.items()}
    tested: dict[tuple[str, int, str], list[int]] = {}
    for item_id, (series_of, series) in grouped.items():
        for number in _current(series_of, series):
            for at, run in enumerate(points[item_id]):
                for name in run.margins if series_of[at] == number else ():
                    tested.setdefault((item_id, number, name), []).append(at)
    margins = {key: [points[key[0]][at].margins[key[2]].left for at in places] for key, places in tested.items()}
    drifts = drifts_of(margins)
    found: dict[str, list[Drifting]] = {}
    for key, drift in drifts.items():
        item_id, _, name = key
        runs = [points[item_id][at] for at in tested[key]]
        margin = runs[-1].margins[name]
        jump = short_commit(runs[drift.jump_at].commit) if drift.jump_share >= 0.5 else ""
        found.setdefault(item_id, []).append(
            Drifting(
                id=item_id, margin=name, observed=margin.observed, bound=margin.bound, drift=drift, jump_commit=jump
            )
        )
    result = [
        Trend(
            id=item_id,
            points=runs,
            series_of=grouped[item_id][0],
            series=grouped[item_id][1],
            drifting=sorted(found.get(item_id, ()), key=lambda one: one.drift.sessions_left),
        )
        for item_id, runs in points.items()
    ]
    ordered = sorted(result, key=lambda trend: (not trend.drifting, trend.id))
    return ordered, sum(map(can_be_tested, margins.values()))


def short_commit(commit: str) -> str:
    """Shorten a commit, and keep that files were changed: `1a2b3c4d5-dirty`."""
    name, dash, rest = commit.partition("-")
    return name[:SHORT_COMMIT] + dash + rest


def _current(series_of: Sequence[int | None], series: Sequence[Series]) -> list[int]:
    newest = {str(series[number].conditions["device"]): number for number in series_of if number is not None}
    return list(newest.values())


def _series(points: Sequence[Point]) -> tuple[list[int | None], list[Series]]:
    """Return the number of each point's series, and the series; runs on two machines in turn are two series."""
    numbers: dict[tuple[tuple[str, str], ...], int] = {}
    series: list[Series] = []
    series_of: list[int | None] = []
    before: Mapping[str, Any] | None = None
    for at, point in enumerate(points):
        if point.conditions is None:
            series_of.append(None)
            continue
        key = tuple(sorted((name, repr(value)) for name, value in point.conditions.items()))
        if key not in numbers:
            numbers[key] = len(series)
            changes = () if before is None else _changes(before, point.conditions)
            series.append(Series(conditions=point.conditions, first=at, changes=changes))
        series_of.append(numbers[key])
        before = point.conditions
    return series_of, series


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    names = [name for name in dict.fromkeys((*new, *old)) if old.get(name) != new.get(name)]
    return tuple(
        f"{name.removeprefix('settings.')} {_plain(old.get(name))} -> {_plain(new.get(name))}" for name in names
    )


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return f"[{listed(value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _trend_dict(trend: Trend) -> dict[str, Any]:
    return {
        "id": trend.id,
        "points": [
            {
                "session": point.session,
                "started_at": point.started.isoformat(timespec="seconds"),
                "git_commit": point.commit or None,
                "verdict": point.verdict,
                "reason": point.reason,
                "series": number,
                "loss_last": point.loss,
                "seconds": point.seconds,
                "samples_per_second": point.samples_per_second,
                "margins": {name: margin.to_dict() for name, margin in point.margins.items()},
            }
            for point, number in zip(trend.points, trend.series_of, strict=True)
        ],
        "series": [{"first_point": one.first, "changes": list(one.changes)} for one in trend.series],
    }
