"""One smoke run as a pytest item."""

from __future__ import annotations

import os
import shlex
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.collect.bounded_output import bounded_output
from pytest_smoke.collect.devices import held_device, need_device
from pytest_smoke.collect.progress import progress_of, terminal_width
from pytest_smoke.collect.workers import worker_of
from pytest_smoke.environment import in_github_workflow
from pytest_smoke.interruption import INTERRUPTION
from pytest_smoke.keys import EXECUTED, OUTCOMES, RECEIPT, REGISTRY, RUNS, SUMMARY
from pytest_smoke.monitor.smoke import NO_DEVICE, RunOptions, SmokeResult, run_smoke, skipped_outcome
from pytest_smoke.options import skip_or_fail
from pytest_smoke.outcome import Outcome
from pytest_smoke.plain import plain_name
from pytest_smoke.recipe.case import Case
from pytest_smoke.report.annotations import without_commands
from pytest_smoke.report.terminal import failure, headline, properties

MARK = pytest.mark.smoke
"""The mark of every smoke run, made once."""
UNKNOWN_DEVICE = "auto"
"""Device of a run that another machine has executed: its outcome says which one that was."""


class NotPromotedError(Exception):
    """The verdict on a smoke run is not `promote`."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(headline(outcome))
        self.outcome = outcome


class SmokeItem(pytest.Item):
    """One mode of one cell of a recipe."""

    def __init__(self, *, case: Case, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.case = case
        self.add_marker(MARK)

    def runtest(self) -> None:
        """Execute the smoke run; only a promotion passes. Raises NotPromotedError for any other verdict."""
        if (raised := self._execute()) is not None:  # its traceback, which pytest keeps, holds no more than this frame
            raise raised

    def _execute(self) -> BaseException | None:
        """Execute the smoke run, and return what tells pytest of the verdict; None for a promotion."""
        earlier = self.stash.get(RUNS, 0)  # a plugin may execute an item again
        item_id = f"{self.nodeid}#{earlier + 1}" if earlier else self.nodeid
        device = device_for(self, self.case, item_id=item_id)
        case = replace(self.case)  # pytest keeps the item, and what is computed of the copy ends with the run
        result = run_for_item(self, case, device=device, item_id=item_id)
        outcome = result.outcome
        stops_session = isinstance(result.error, pytest.exit.Exception)  # raised by a task, it is an error as others
        if result.error is not None and outcome.verdict == "error" and not stops_session:
            return result.error
        if outcome.completed:
            return pytest.skip.Exception(outcome.text)
        if outcome.reason == "unmet-requirements":  # of the machine that an executor chose
            skip_or_fail(outcome.text, self.config)
        return None if outcome.promoted else NotPromotedError(outcome)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        """Return the failure text, which starts with the reason and has a traceback only if the task raised."""
        outcomes = self.stash.get(OUTCOMES, [])
        if not outcomes or isinstance(excinfo.value, KeyboardInterrupt):
            return super().repr_failure(excinfo)
        return failure_text(outcomes[-1], self.config, path=self.path, node_id=self.nodeid)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the item comes from."""
        return self.path, None, plain_name(f"{self.case.path}: {self.name}")

    @cached_property
    def location(self) -> tuple[str, int | None, str]:
        """Where the item comes from, as reports say it. pytest-xdist cannot send a file name that is not Unicode.

        pytest's own takes 0.1 ms to find the way from the rootdir to a file below it.
        """
        base = os.path.join(self.config.rootpath, "")
        if (path := str(self.path)).startswith(base):
            _, line, name = self.reportinfo()
            return plain_name(path.removeprefix(base)), line, name
        path, line, name = super().location
        return plain_name(path), line, name


def attach(item: pytest.Item, report: pytest.TestReport) -> None:
    """Put the item's outcomes on its report as builtins, which pytest-xdist sends to its controller.

    A recipe's item that was skipped is reported at its place in the recipe, not at the call of `pytest.skip`. Keywords
    are the names of its files and folders, which need not be Unicode.
    """
    if isinstance(item, SmokeItem):
        report.keywords = {plain_name(name): value for name, value in report.keywords.items()}
    outcomes = item.stash.get(OUTCOMES, [])
    if outcomes and (report.when != "setup" or report.failed):  # a fixture may execute smoke runs until the teardown
        item.stash[OUTCOMES] = []
        report.smoke_outcomes = [outcome.to_dict() for outcome in outcomes]  # type: ignore[attr-defined]  # our own
        if (receipt := item.stash.get(RECEIPT, None)) is not None:
            item.stash[RECEIPT] = None
            report.smoke_receipt = receipt.to_text()  # type: ignore[attr-defined]  # our own
        if report.skipped and isinstance(item, SmokeItem):
            path, _, line = outcomes[-1].place.rpartition(":")
            report.longrepr = (plain_name(path), int(line), outcomes[-1].text)


def device_for(item: pytest.Item, case: Case, *, item_id: str) -> str:
    """Return the device to run on. If the machine lacks it, leave an outcome, and skip or fail the item."""
    if item.config.option.smoke_preflight:
        return NO_DEVICE  # preflight does not run anything
    if EXECUTED in item.stash:
        return UNKNOWN_DEVICE
    try:
        return need_device(case.recipe, item.config)
    except (pytest.skip.Exception, pytest.fail.Exception) as lacking:
        outcome = skipped_outcome(case, str(lacking), item_id=item_id, root=item.config.rootpath)
        _add_outcome(item, _with_rerun_options(outcome, item.config))
        raise


def _with_rerun_options(outcome: Outcome, config: pytest.Config) -> Outcome:
    options = rerun_options_of(config)
    if options == outcome.facts.rerun_options:
        return outcome
    return replace(outcome, facts=replace(outcome.facts, rerun_options=options))


def _add_outcome(item: pytest.Item, outcome: Outcome) -> None:
    item.stash[RUNS] = item.stash.get(RUNS, 0) + 1
    item.stash.setdefault(OUTCOMES, []).append(outcome)


def run_for_item(item: pytest.Item, case: Case, *, device: str, item_id: str) -> SmokeResult:
    """Execute `case` with the session's options, and leave its outcome on `item`. Raises what interrupts it."""
    with INTERRUPTION.held():  # from the end of the run until its outcome is kept
        worker = worker_of(item.config)
        result = item.stash.get(EXECUTED, None)
        if result is None:
            result = run_with_options(item.config, case, device=device, item_id=item_id)
        else:
            del item.stash[EXECUTED]  # a plugin may execute the item again
        result = replace(result, outcome=_with_rerun_options(result.outcome, item.config))
        _add_outcome(item, result.outcome)
        if isinstance(item, SmokeItem):
            item.stash[RECEIPT] = result.receipt
        if item.config.getini("smoke_junit_properties") == "testcase":
            item.user_properties.extend(properties(result.outcome))
        unreported = [*item.stash[OUTCOMES]]
        summary: Any = item.config.pluginmanager.get_plugin(SUMMARY)
        if summary is not None:
            summary.keep(item.nodeid, unreported)
        if worker is not None and (result.interrupt is not None or not item.config.option.smoke_preflight):
            worker.keep(item.nodeid, unreported)
            worker.hide()
        if result.interrupt is not None:
            if summary is not None:
                summary.add_kept()  # there may be no report of an item that Ctrl-C ends
            raise result.interrupt
    return result


def options_of(config: pytest.Config, device: str) -> RunOptions:
    """Return how this session executes smoke runs."""
    option = config.option
    return RunOptions(
        root=str(config.rootpath),
        device=device,
        isolation=option.smoke_isolation,
        timeout_seconds=option.smoke_timeout or None,
        early_stop=not option.smoke_no_early_stop,
        preflight_only=option.smoke_preflight,
        report_folder=option.smoke_report,
        resume=option.smoke_resume,
        registry=config.stash[REGISTRY],
    )


def run_with_options(config: pytest.Config, case: Case, *, device: str, item_id: str) -> SmokeResult:
    """Execute `case` with the session's options."""
    option = config.option
    options = replace(
        options_of(config, device), hold_device=lambda on_wait: held_device(case, config, device, on_wait)
    )
    captured = option.smoke_isolation == "none" and option.capture != "no"
    with bounded_output() if captured else nullcontext(), progress_of(config, case, item_id=item_id) as watch:
        return run_smoke(case, options, item_id=item_id, watch=watch)


def rerun_options_of(config: pytest.Config) -> tuple[str, ...]:
    """Return the options of this session that the command which reruns a smoke run needs."""
    option, words = config.option, list[str]()
    if option.smoke_mode:
        words += ["--smoke-mode", option.smoke_mode]
    if option.smoke_device != "auto":
        words += ["--smoke-device", option.smoke_device]
    if option.smoke_isolation == "none":
        words += ["--smoke-isolation", "none"]
    return tuple(words)


def failure_text(outcome: Outcome, config: pytest.Config, *, path: Path, node_id: str) -> str:
    """Return the failure text of a smoke run, with the command that reruns it from where pytest was started.

    `path` and `node_id` are those of the item.
    """
    words = ["pytest --smoke", *rerun_options_of(config)]
    shown = os.path.relpath(path, config.invocation_params.dir)
    words.append(shlex.quote(f"{shown}::{node_id.partition('::')[2]}"))
    text = failure(
        outcome,
        place=plain_name(outcome.place),
        rerun=plain_name(" ".join(words)),
        width=terminal_width(),
        verbose=config.getoption("verbose", 0) > 0,
    )
    return without_commands(text) if in_github_workflow() else text
