"""Which outcome of a smoke run counts if several sessions have one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_smoke.errors import MergeError
from pytest_smoke.merge.read import Entry
from pytest_smoke.outcome import NOT_RUN
from pytest_smoke.plain import plain_name
from pytest_smoke.report.terminal import label
from pytest_smoke.text import count, seconds

OF_THE_FOLDER = ("package", "checkpoints")
"""Facts about where files are, in which two copies of one outcome may differ: a merge changes them."""
CONFLICTS_SHOWN = 10
"""Conflicts that are named before the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """The outcome of a smoke run that counts."""

    entry: Entry
    copies: tuple[Entry, ...]
    """The same outcome in every folder that has it, `entry` first."""
    notes: tuple[str, ...] = ()
    """What was left out for it, one sentence each."""


def select(entries: Iterable[Entry], *, newest: bool) -> list[Selected]:
    """Return the outcome that counts for each id, sorted by id.

    Equal outcomes count once. A session that could not run an item yields to one that did. Of other different
    outcomes the `newest` counts; without that, MergeError names them.
    """
    by_id: dict[str, list[Entry]] = {}
    for entry in entries:
        by_id.setdefault(entry.id, []).append(entry)
    selected, conflicts = [], []
    for item_id in sorted(by_id):
        try:
            selected.append(_select(by_id[item_id], newest=newest))
        except MergeError as error:
            conflicts.append(str(error))
    if conflicts:
        more = len(conflicts) - CONFLICTS_SHOWN
        hint = "the clocks of the sessions cannot tell which one counts" if newest else "--newest takes the newest one"
        shown = [*conflicts[:CONFLICTS_SHOWN], *([f"{more:,} more have different outcomes"] if more > 0 else [])]
        raise MergeError(*shown, f"{count(len(conflicts), 'smoke run')} with different outcomes: {hint}")
    return selected


def _select(entries: Sequence[Entry], *, newest: bool) -> Selected:
    groups: list[list[Entry]] = []
    for entry in entries:
        same = next((group for group in groups if _content(group[0].tree) == _content(entry.tree)), None)
        groups.append([entry]) if same is None else same.append(entry)
    executed = [group for group in groups if group[0].outcome.reason not in NOT_RUN]
    candidates = executed or groups
    if len(candidates) > 1 and not executed:
        candidates = candidates[:1]  # nobody could run it: one reason says so
    if len(candidates) > 1:
        if not newest:
            labels = [label(group[0].outcome) for group in candidates]
            named = " and ".join(
                f"{said} in {_place(group[0])}" for said, group in zip(labels, candidates, strict=True)
            )
            # Two promotions differ in their losses and times.
            what = "has different outcomes" if len(set(labels)) > 1 else f"was executed {len(labels)} times"
            raise MergeError(f"{entries[0].id} {what}: {named}")
        candidates = _newest_first(candidates)
    chosen = candidates[0]
    notes = tuple(_replaced(chosen[0], group[0]) for group in candidates[1:])
    return Selected(entry=chosen[0], copies=tuple(chosen), notes=notes)


def _newest_first(groups: Sequence[list[Entry]]) -> list[list[Entry]]:
    """Sort outcomes by their start. Raises MergeError if that does not tell which is the newest."""
    item_id = groups[0][0].id
    times = [group[0].started for group in groups]
    for group, started in zip(groups, times, strict=True):
        if started is None:
            raise MergeError(f"{item_id} has no start time in {_place(group[0])}")
    ordered = sorted(zip(times, groups, strict=True), key=lambda pair: pair[0].timestamp(), reverse=True)  # type: ignore[union-attr]  # none is None
    (first, one), (second, other) = ordered[:2]
    if first == second:
        raise MergeError(f"{item_id} started at the same time in {_place(one[0])} and {_place(other[0])}")
    return [group for _, group in ordered]


def _replaced(newer: Entry, older: Entry) -> str:
    assert newer.started is not None
    assert older.started is not None
    age = seconds((newer.started - older.started).total_seconds())
    return (
        f"{newer.id}: {label(newer.outcome)} in {_place(newer)} replaces {label(older.outcome)} in {_place(older)}, "
        f"which started {age} earlier"
    )


def _content(tree: Mapping[str, Any]) -> dict[str, Any]:
    facts = {key: value for key, value in tree["facts"].items() if key not in OF_THE_FOLDER}
    return {**tree, "facts": facts}


def _place(entry: Entry) -> str:
    return plain_name(str(entry.folder))
