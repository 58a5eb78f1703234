"""All checks, one row each. What a check can say, and which verdict that leads to, is written there and nowhere else.

A new check is a module with a `Check`, and one entry in `CHECKS`. Plugins add theirs through `pytest_smoke_checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from pytest_smoke.errors import SmokeError
from pytest_smoke.events import NotChecked
from pytest_smoke.judge.checks import (
    accept,
    accumulation,
    advisories,
    baseline,
    batch_drawn,
    batch_geometry,
    drawn_samples,
    grad_ratio,
    learning,
    loss,
    lr_applied,
    mix,
    model_mode,
    pipeline,
    prediction_errors,
    rehearsal,
    resume,
    run,
    schedule,
    settings,
    sources,
    stage,
    supervised_tokens,
    updates,
)
from pytest_smoke.judge.checks.check import ACCEPTED_UNVERIFIED, NO_DATA, UNVERIFIED, Check, Reason, RunView
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.text import NOT_CHECKED

CHECKS: tuple[Check, ...] = (
    batch_geometry.CHECK,
    schedule.CHECK,
    settings.CHECK,
    mix.MIX,
    baseline.CHECK,
    sources.CHECK,
    resume.RESUMED,
    run.CHECK,
    accept.METRIC_NAMES,
    rehearsal.MEMORY,
    mix.MIX_DRAWN,
    drawn_samples.RANKS,
    drawn_samples.DATA_REPEATS,
    supervised_tokens.CHECK,
    model_mode.MODEL_MODE,
    model_mode.SHARED_STORAGE,
    accumulation.CHECK,
    batch_drawn.CHECK,
    batch_drawn.ITEMS,
    lr_applied.CHECK,
    loss.FINITE,
    loss.LOSS_TREND,
    learning.CHECK,
    updates.CHECK,
    grad_ratio.CHECK,
    stage.CHECK,
    accept.CHECK,
    rehearsal.OVERFIT,
    *advisories.ADVISORIES,
    pipeline.CHECK,
    resume.RESUME,
    prediction_errors.CHECK,
)
"""In the order in which their findings are listed."""

CHECK_FAILED = Reason(
    id="check-raised", status="not-checked", when="the check itself raised an exception (checks of plugins)"
)
"""A reason that every check of a plugin can give without declaring it."""


PER_STAGE = ("every step", "end of a stage")
"""Checks made at these times have one finding per stage."""


class Registry:
    """The checks of a session: those above, and those that plugins add."""

    def __init__(self, extra: Iterable[Check] = ()) -> None:
        """Add the checks `extra`. Raises SmokeError if one of them has the id of another check."""
        self.checks = CHECKS
        self._own = {check.id for check in CHECKS}
        for check in extra:
            if check.id in {known.id for known in self.checks}:
                raise SmokeError(f"pytest_smoke_checks added a check {check.id!r}, which exists already")
            self.checks = (*self.checks, check)
        self._rows = {check.id: check for check in self.checks}
        self._order = {check.id: at for at, check in enumerate(self.checks)}
        self._first = {check.when: self._order[check.id] for check in reversed(self.checks)}
        """Where the first check of each time is."""

    def row(self, finding: Finding) -> Check | None:
        """Return the check that made a finding; None if no check of this session did."""
        return self._rows.get(finding.check)

    def before_run(self, case: Case) -> list[Finding]:
        """Make every check that needs no run."""
        return [
            finding
            for check in self.checks
            if check.before_run is not None
            for finding in self._made(check, check.before_run, case)
        ]

    def on_event(self, event: Any, run: RunView) -> list[Finding]:
        """Make every check that another event of this type completes."""
        return [
            finding
            for check in self.checks
            if check.on_event is not None and isinstance(event, check.on_event[0])
            for finding in self._made(check, check.on_event[1], run, run.events(check.on_event[0]))
        ]

    def at_end(self, run: RunView, *, when: Sequence[str] = ()) -> list[Finding]:
        """Make every check that is made once the run is over; `when` selects some of them.

        Checks that what trains gives no data for are left out: see `without_data`.
        """
        unknown = reasons_without_data(run)
        return [
            finding
            for check in self.checks
            if check.at_end is not None and (not when or check.when in when) and check.id not in unknown
            for finding in self._made(check, check.at_end, run)
        ]

    def without_data(self, run: RunView) -> list[Finding]:
        """Return a finding for each check that what trains gives no data for, with the reason."""
        accepted = run.case.recipe.checks.accept_unverified
        return [
            _without_data(
                check, why, needed=check.needed is not None and check.needed(run.case), accepted=check.id in accepted
            )
            for check in self.checks
            if (why := reasons_without_data(run).get(check.id)) is not None
        ]

    def completed(self, findings: Sequence[Finding], case: Case | None = None) -> list[Finding]:
        """Give every finding without a recipe key of its own that of its check, and sort in the order of the checks.

        The key `task` becomes the one that names what trains in the recipe of `case`, which has the places of all keys.
        A finding that another failure explains loses its hint: what it suggests would not help.

        Checks that are made once per stage stay together, stage by stage.
        """
        failed = {finding.check for finding in findings if finding.status == "fail"}
        with_keys = [self._completed(finding, failed, case) for finding in findings]
        order = self._order
        stages = list(dict.fromkeys(finding.subject for finding in with_keys if finding.check in ("finite", "updates")))

        def position(finding: Finding) -> tuple[int, int, int]:
            row = self.row(finding)
            if row is None:
                return len(order), 0, 0
            if row.when not in PER_STAGE:
                return order[row.id], 0, 0
            return (
                self._first[row.when],
                stages.index(finding.subject) if finding.subject in stages else 0,
                order[row.id],
            )

        return sorted(with_keys, key=position)

    def _completed(self, finding: Finding, failed: AbstractSet[str], case: Case | None) -> Finding:
        row = self.row(finding)
        reason = row.reason(finding.reason, finding.status) if row else None
        hint = "" if reason is not None and not failed.isdisjoint(reason.yields_to) else finding.hint
        key = finding.key or (row.key if row else "")
        if case is None:
            return replace(finding, key=key, hint=hint)
        key = case.recipe.trainer if key == "task" else key
        return replace(finding, key=key, hint=hint, key_place=case.place_of(key))

    def _made(self, check: Check, make: Callable[..., Iterable[Finding]], *args: Any) -> Iterator[Finding]:
        """Make a check; if one of a plugin raises, that is a finding, and the session continues."""
        if check.id in self._own:
            yield from make(*args)
            return
        try:
            findings = list(make(*args))
            for finding in findings:
                if finding.check != check.id:
                    raise ValueError(f"it made a finding with the id {finding.id!r}, not {check.id!r}")
            yield from findings
        except Exception as error:
            text = f"the check raised {type(error).__name__}: {error}"
            yield Finding(id=check.id, status="not-checked", reason=CHECK_FAILED.id, text=text)


def reasons_without_data(run: RunView) -> dict[str, str]:
    """Return why a check has no data, as a clause by id of the check."""
    return {check_id: why for event in run.events(NotChecked) for check_id, why in event.reasons.items()}


def _without_data(check: Check, why: str, *, needed: bool, accepted: bool) -> Finding:
    text = f"{NOT_CHECKED}: {why}"
    if not needed:
        return Finding(id=check.id, status="not-checked", reason=NO_DATA.id, text=text)
    if accepted:
        text = f"{text}; checks.accept_unverified accepts it"
        return Finding(
            id=check.id, status="warn", reason=ACCEPTED_UNVERIFIED.id, text=text, key="checks.accept_unverified"
        )
    hint = ACCEPT.format(check.id) if check.id in ACCEPTABLE else ""
    return Finding(id=check.id, status="not-checked", reason=UNVERIFIED.id, text=text, hint=hint)


ACCEPTABLE = (schedule.CHECK.id,)
"""Checks that `checks.accept_unverified` may name."""
ACCEPT = (
    "log the learning rate. If you cannot, and know that the trainer does what its settings say, accept that with "
    "checks: {{accept_unverified: [{}]}}"
)

DEFAULT = Registry()
"""The checks without those of plugins."""
