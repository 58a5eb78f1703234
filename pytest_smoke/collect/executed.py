"""Items whose smoke runs an executor executes: all are started at once, and reported in the order in which they end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_smoke.collect.item import SmokeItem, options_of
from pytest_smoke.collect.progress import say
from pytest_smoke.errors import SmokeError
from pytest_smoke.interruption import INTERRUPTION
from pytest_smoke.keys import EXECUTED
from pytest_smoke.monitor.executor import Executor, Request
from pytest_smoke.recipe.case import Case

if TYPE_CHECKING:
    from pytest_smoke.collect.summary import Summary


class ExecutedRuns:
    """Replaces pytest's loop over the items. Registered as a plugin."""

    def __init__(self, config: pytest.Config, executor: Executor, summary: Summary) -> None:
        self._config, self._executor, self._summary = config, executor, summary

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Start all smoke runs, execute the tests meanwhile, and then report each run when it has ended."""
        runs = {item.nodeid: item for item in session.items if isinstance(item, SmokeItem)}
        if not runs or session.config.option.collectonly:
            return None  # pytest's own loop
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            return None  # which says so
        try:
            say(self._config, self._executor.submit([self._request(item) for item in runs.values()]))
            tests = [item for item in session.items if runs.get(item.nodeid) is not item]
            for at, item in enumerate(tests, start=1):
                _execute(session, item, tests[at] if at < len(tests) else None)
            while (result := self._executor.next_ended()) is not None:
                item = runs[result.outcome.id]
                item.stash[EXECUTED] = result
                _execute(session, item, None)  # which is next is not known yet
        except SmokeError as error:
            raise pytest.UsageError(str(error)) from None
        except BaseException:
            with INTERRUPTION.held():
                for result in self._executor.cancel():
                    self._summary.keep(result.outcome.id, [result.outcome])
                self._summary.add_kept()
            raise
        return True

    def _request(self, item: SmokeItem) -> Request:
        return Request(
            item_id=item.nodeid,
            case=item.case,
            options=replace(options_of(self._config, _device(item.case, self._config)), hold_device=None),
            forced_mode=self._config.option.smoke_mode,
        )


def _execute(session: pytest.Session, item: pytest.Item, following: pytest.Item | None) -> None:
    """Execute an item as pytest does, and raise what ends the session."""
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)


def _device(case: Case, config: pytest.Config) -> str:
    """Return the device that a run is to use on a machine of which nothing is known yet."""
    chosen: str = config.option.smoke_device
    kind = case.recipe.requires.kind
    return kind if kind == "cpu" or (kind != "any" and chosen == "auto") else chosen
