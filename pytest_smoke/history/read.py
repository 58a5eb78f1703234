"""Reads the outcomes of many sessions from the report folders below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_smoke.errors import ReportError
from pytest_smoke.files import STALE, VERDICTS_SCHEMA, invalid_json, read_failure, read_json
from pytest_smoke.files import VERDICTS as VERDICTS_FILE
from pytest_smoke.history.margins import Margin, finite_number, margins_of
from pytest_smoke.outcome import VERDICTS
from pytest_smoke.plain import plain_name, plain_text
from pytest_smoke.text import count, listed

UNTRAINED = ("preflight", "unmet-requirements")
"""Reasons of an outcome of a smoke run that was not to be trained in its session: it says nothing new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One smoke run in one session."""

    session: str
    """Report folder, relative to the folder that was read."""
    started: datetime
    """Start of the smoke run, in UTC."""
    commit: str
    """Commit of the project; empty if it is not known."""
    verdict: str
    reason: str
    text: str
    """The sentence that decided the verdict."""
    loss: float | None = None
    """Mean loss of the last tenth of the steps; None if it is not known or not finite."""
    seconds: float | None = None
    """Wall time of the smoke run."""
    samples_per_second: float | None = None
    """Training throughput."""
    margins: Mapping[str, Margin] = field(default_factory=dict)
    """Distances from the limits, by name."""
    conditions: Mapping[str, Any] | None = None
    """What must be equal for two runs to be compared: settings, device, precision and version of torch, by name; None
    for a run that never started on a device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """What was found in a folder."""

    points: Mapping[str, Sequence[Point]]
    """Smoke runs by id, each in the order of their start."""
    count: int
    """Sessions with at least one smoke run in `points`."""
    notes: tuple[str, ...]
    """One sentence for everything that was found and is not in `points`."""


def read_sessions(folders: Sequence[Path]) -> Sessions:
    """Read every `verdicts.json` below the folders, at any depth. Raises ReportError if they have no smoke run to show.

    Files that cannot be read, and outcomes that were found before, are named in the notes.
    """
    notes: list[str] = []
    files = [file for folder in folders for file in _report_files(folder, notes)]
    if not files:
        where = listed([plain_name(str(folder)) for folder in folders])
        raise ReportError(
            f"no {VERDICTS_FILE} below {where}: write one per session with pytest --smoke --smoke-report {where}/NAME"
        )
    points: dict[str, list[Point]] = {}
    first_seen: dict[tuple[object, ...], str] = {}
    used, untrained = 0, 0
    for path, session in files:
        name = plain_name(str(path))
        try:
            trees = _outcomes(path)
        except ReportError as error:
            notes.append(f"{name} is left out: {error}")
            continue
        latest = max((start for tree in trees if (start := _start(tree)) is not None), default=None)
        broken: list[str] = []
        repeated: dict[str, int] = {}
        kept = 0
        for at, tree in enumerate(trees):
            try:
                item_id, point = _point(tree, session, otherwise=latest)
            except (ValueError, RecursionError) as error:
                why = "nested too deeply" if isinstance(error, RecursionError) else error
                broken.append(f"outcome {at + 1} ({why})")
                continue
            identity = _identity(tree, item_id, point)
            earlier = first_seen.setdefault(identity, name)
            if earlier != name:
                repeated[earlier] = repeated.get(earlier, 0) + 1
            elif point.reason in UNTRAINED:
                untrained += 1
            else:
                points.setdefault(item_id, []).append(point)
                kept += 1
        used += bool(kept)
        if broken:
            notes.append(f"{name}: left out {listed(broken)}")
        for earlier, many in repeated.items():
            if many == len(trees):
                what = "its only outcome is" if many == 1 else f"all {many:,} outcomes are"
            else:
                what = f"{count(many, 'outcome')} {'is' if many == 1 else 'are'}"
            notes.append(f"{name}: {what} also in {earlier}, and counted once")
    if untrained:
        notes.append(
            f"{count(untrained, 'outcome')} left out: only preflight was executed, or the smoke run was skipped"
        )
    if not points:
        raise ReportError(f"no smoke run to show: {'; '.join(notes) or 'the sessions had none'}")
    for series in points.values():
        series.sort(key=lambda point: (point.started, point.session))
    return Sessions(points=dict(sorted(points.items())), count=used, notes=tuple(notes))


def _report_files(folder: Path, notes: list[str]) -> Iterator[tuple[Path, str]]:
    """Yield every `verdicts.json` below a folder with the name of its session; no folder is entered twice.

    Raises ReportError for a path that is not a folder.
    """

    def unreadable(error: OSError) -> None:
        notes.append(f"{plain_name(str(error.filename))} is left out: {read_failure(error)}")

    if folder.name == VERDICTS_FILE and folder.is_file():
        yield folder, plain_name(folder.absolute().parent.name)
        return
    if not folder.is_dir():
        raise ReportError(
            f"{plain_name(str(folder))} is not a folder" if folder.exists() else f"{folder}: no such folder"
        )
    entered: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        folders.sort()
        at = os.stat(place)
        if (at.st_dev, at.st_ino) in entered:
            folders.clear()
            continue
        entered.add((at.st_dev, at.st_ino))
        if VERDICTS_FILE in files:
            if STALE in folders:
                folders.remove(STALE)
                if (Path(place) / STALE / VERDICTS_FILE).is_file():
                    notes.append(
                        f"{plain_name(str(Path(place) / STALE))} is left out: it mixes sessions; give each a folder"
                    )
            relative = Path(place).relative_to(folder)
            yield Path(place) / VERDICTS_FILE, plain_name(str(relative if relative.parts else Path(place).name))


def _outcomes(path: Path) -> list[Any]:
    """Return the outcomes of a file. Raises ReportError."""
    try:
        tree = read_json(path)
    except OSError as error:
        raise ReportError(read_failure(error)) from None
    except ValueError as error:
        raise ReportError(invalid_json("", error).removeprefix(":").strip()) from None
    if not isinstance(tree, dict) or not isinstance(tree.get("outcomes"), list):
        raise ReportError("it is not a report of smoke runs: it has no list of outcomes")
    if tree.get("schema") != VERDICTS_SCHEMA:
        raise ReportError(f"it has schema {tree.get('schema')!r:.40}, and this version reads {VERDICTS_SCHEMA}")
    outcomes: list[Any] = tree["outcomes"]
    return outcomes


def _start(tree: Any) -> datetime | None:
    """Return the start of a smoke run in UTC; None if the outcome has none."""
    try:
        started = datetime.fromisoformat(tree["facts"]["started_at"])
        return (started if started.tzinfo else started.replace(tzinfo=UTC)).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _point(tree: Any, session: str, *, otherwise: datetime | None) -> tuple[str, Point]:
    """Return id and point of an outcome; `otherwise` is its start if it has none. Raises ValueError with why not."""
    if not isinstance(tree, Mapping) or not isinstance(tree.get("id"), str):
        raise ValueError("no id")
    if tree.get("verdict") not in VERDICTS:
        raise ValueError(f"verdict {tree.get('verdict')!r:.40}")
    facts = tree.get("facts")
    if not isinstance(facts, Mapping):
        raise ValueError("no facts")
    started = _start(tree) or otherwise
    if started is None:
        raise ValueError("no start time")
    return plain_name(tree["id"]), Point(
        session=session,
        started=started,
        commit=plain_name(_text(facts.get("git_commit"))),
        verdict=tree["verdict"],
        reason=plain_name(_text(tree.get("reason"))),
        text=plain_text(_text(tree.get("text"))),
        loss=finite_number(facts.get("loss_last")),
        seconds=finite_number(facts.get("seconds")),
        samples_per_second=finite_number(facts.get("samples_per_second")),
        margins={plain_name(name): margin for name, margin in margins_of(tree.get("findings")).items()},
        conditions=_conditions(tree, facts),
    )


def _conditions(tree: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what makes two runs comparable, flat: nested settings by dotted name."""
    if not facts.get("device"):
        return None
    device = str(facts["device"]).partition(":")[0]  # two devices of one machine are the same
    found: dict[str, Any] = {
        "device": " ".join(dict.fromkeys((device, str(facts.get("device_name") or "")))).strip(),
        "precision": facts.get("precision"),
        "torch": facts.get("torch"),
    }
    found |= {key: tree.get(key) for key in ("mode", "cell")}
    found |= {key: facts.get(key) for key in ("task", "command", "planned_steps", "full_steps", "seed")}
    settings = {
        key: value for name in ("settings", "args", "cell_changes") for key, value in _flat(facts.get(name), name)
    }
    return {plain_name(key): value for key, value in (dict(_flat(found)) | settings).items()}


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested objects by dotted name."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    elif tree is not None and prefix:
        yield prefix, tuple(map(repr, tree)) if isinstance(tree, list) else tree


def _identity(tree: Mapping[str, Any], item_id: str, point: Point) -> tuple[object, ...]:
    """Return what two copies of one outcome have in common, and two smoke runs do not."""
    facts = tree["facts"]
    return (
        item_id,
        point.started,
        point.verdict,
        point.reason,
        str(facts.get("seconds")),
        str(facts.get("trace_sha256")),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
