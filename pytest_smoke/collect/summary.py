"""Collects outcomes from test reports in the process that reports, and prints and writes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.collect.event_files import FOLDER, write_event_file
from pytest_smoke.collect.garbage import without_collection
from pytest_smoke.collect.item import SmokeItem, failure_text
from pytest_smoke.collect.kept_outcomes import KeptOutcomes
from pytest_smoke.collect.lost import has_crashed, lost_outcome, outcome_without_run, smoke_ids
from pytest_smoke.collect.progress import terminal_width
from pytest_smoke.collect.report_folder import VerdictsFile
from pytest_smoke.collect.workers import WorkerFolder
from pytest_smoke.environment import in_github_workflow
from pytest_smoke.errors import SmokeError
from pytest_smoke.files import VERDICTS
from pytest_smoke.interruption import INTERRUPTION
from pytest_smoke.options import executes_items
from pytest_smoke.outcome import NOT_RUN, Finding, Outcome
from pytest_smoke.page.report import INDEX
from pytest_smoke.page.session_reports import write_reports
from pytest_smoke.plain import exception_text
from pytest_smoke.receipts.folder import ReceiptsFolder
from pytest_smoke.receipts.receipt import parse_receipt
from pytest_smoke.report.ablations import ablation_tables
from pytest_smoke.report.acceptance import acceptance_table
from pytest_smoke.report.annotations import without_commands
from pytest_smoke.report.full_run_estimate import full_run_lines
from pytest_smoke.report.prediction_errors import error_lines
from pytest_smoke.report.terminal import label, not_shown, unchecked, verdict_table, warnings
from pytest_smoke.text import count, listed

COLOURS = {"promote": "green", "": "bold"}
"""Markup of a table row by verdict; red for any other."""
STATUS_MARKUP = {"FAIL": {"red": True, "bold": True}, "warn": {"yellow": True}}
"""Markup of a check's status in a failure text."""
LETTERS = {"preflight": "p", "wiring": "w"}
"""Progress letters of the two kinds of run that complete without a verdict."""


def outcomes_on(report: pytest.TestReport) -> list[Outcome]:
    """Return the outcomes on a report; none on the report of any other item."""
    return [Outcome.from_dict(tree) for tree in getattr(report, "smoke_outcomes", [])]


def status_of(report: pytest.TestReport) -> tuple[str, str, Any] | None:
    """Return category, letter and word of a recipe's item; None leaves them to pytest.

    Once the summary has taken the outcomes off the report, it has left the status there.
    """
    if hasattr(report, "smoke_status"):
        known: tuple[str, str, Any] | None = report.smoke_status
        return known
    return _status(report, outcomes_on(report))


def _status(report: pytest.TestReport, outcomes: Sequence[Outcome]) -> tuple[str, str, Any] | None:
    if len(outcomes) != 1 or outcomes[0].id != report.nodeid:
        return None
    outcome = outcomes[0]
    if report.passed:
        return _shown("passed", ".", "PROMOTE", "green")
    if report.skipped and (done := outcome.completed):
        return _shown(label(outcome), LETTERS[done], label(outcome).upper(), "green")
    if report.failed:
        return _shown("failed", "F", outcome.verdict.upper(), "red")
    return None


@cache
def _shown(category: str, letter: str, word: str, colour: str) -> tuple[str, str, Any]:
    """Return a status as pytest wants it, the same one for all reports that are kept."""
    return category, letter, (word, {colour: True})


class FailureText(str):
    """A failure text that pytest prints in colours: the verdict, and the status of checks that failed or warn."""

    __slots__ = ()

    def toterminal(self, out: Any) -> None:
        """Print to pytest's `TerminalWriter`, which knows whether the terminal shows colours."""
        first, *rest = self.splitlines()
        label, colon, text = first.partition(":")
        out.write(label, red=True, bold=True)
        out.line(colon + text)
        for line in rest:
            word = line.strip().partition(" ")[0]
            if line.startswith(f"  {word} ") and word in STATUS_MARKUP:
                out.write(f"  {word}", **STATUS_MARKUP[word])
                out.line(line.removeprefix(f"  {word}"))
            else:
                out.line(line)


class Summary:
    """Collects outcomes. There is one: in the controller of pytest-xdist, or in the only process."""

    def __init__(
        self,
        config: pytest.Config,
        file: VerdictsFile | None,
        workers: WorkerFolder,
        receipts: ReceiptsFolder | None = None,
    ) -> None:
        self._config, self._file, self._workers, self._receipts = config, file, workers, receipts
        self._outcomes = file.outcomes if file is not None else KeptOutcomes()
        self._of_passed: set[str] = set()
        """Ids of the outcomes of tests that passed, whatever their verdicts are."""
        self._kept: dict[str, Sequence[Outcome]] = {}
        """Outcomes of an item that are not on a report yet."""
        self._expected: Counter[str] = Counter()
        """How often each recipe's item was collected to be executed."""
        self._arrived: Counter[str] = Counter()
        """How often an outcome of it arrived."""
        self._problems: list[str] = []
        self._notes: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Remember which items are to be executed."""
        self._expected |= Counter(item.nodeid for item in session.items if isinstance(item, SmokeItem))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Remember which items the workers of pytest-xdist are to execute."""
        self._expected |= Counter(smoke_ids(ids, self._config))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None]:
        """Keep the outcomes of a report and write them, so that a killed session loses none.

        pytest keeps all reports until the session ends, so the outcomes are taken off once every plugin has seen them.
        """
        arrived = self._arrived_on(report)
        if arrived:
            report.smoke_status = _status(report, arrived)  # type: ignore[attr-defined]  # our own
        self._keep_arrived(report, arrived)
        try:
            yield
        finally:
            if arrived:
                report.smoke_outcomes = []  # type: ignore[attr-defined]  # our own
                report.smoke_receipt = None  # type: ignore[attr-defined]  # our own

    def _arrived_on(self, report: pytest.TestReport) -> list[Outcome]:
        """Return the outcomes on a report: those of this process as they are, those of a worker built again."""
        kept = self._kept.get(report.nodeid, ())
        if kept and [one.id for one in kept] == [tree["id"] for tree in getattr(report, "smoke_outcomes", ())]:
            return list(kept)
        return outcomes_on(report)

    def _keep_arrived(self, report: pytest.TestReport, arrived: list[Outcome]) -> None:
        trees: list[dict[str, Any] | None] = getattr(report, "smoke_outcomes", [])
        if not arrived and (lost := lost_outcome(report, self._config, self._workers)) is not None:
            arrived = [lost]
            if has_crashed(report):
                path = self._config.rootpath / report.nodeid.partition("::")[0]
                report.longrepr = failure_text(lost, self._config, path=path, node_id=report.nodeid)
                # As of other items of recipes; pytest-xdist names the file alone.
                report.location = (*report.location[:2], report.nodeid.replace("::", ": ", 1))
                report.smoke_outcomes = []  # type: ignore[attr-defined]  # our own
                report.smoke_status = _status(report, arrived)  # type: ignore[attr-defined]  # our own
        if not arrived:
            return
        self._arrived[report.nodeid] += 1
        if report.failed and isinstance(report.longrepr, str) and arrived[0].id == report.nodeid:
            report.longrepr = FailureText(report.longrepr)
        with INTERRUPTION.held():  # Ctrl-C in between would lose the other outcomes and the receipt
            self._kept.pop(report.nodeid, None)
            added = [self._add(one, tree) for one, tree in zip(arrived, trees or [None], strict=True)]
            if report.passed:
                self._of_passed.update(one.id for one in added)
            self._add_receipt(report.nodeid, arrived[-1], getattr(report, "smoke_receipt", None))
        self._workers.forget(arrived)
        for outcome in added:
            self._announce(outcome)

    def keep(self, node_id: str, outcomes: Sequence[Outcome]) -> None:
        """Remember the outcomes of an item until they arrive on its report, which an interruption can prevent."""
        self._kept[node_id] = outcomes

    def add_kept(self) -> None:
        """Add the outcomes of which no report has come."""
        for node_id, outcomes in self._kept.items():
            self._add_of(node_id, outcomes)
        self._kept.clear()

    def counts(self) -> tuple[int, int]:
        """Return how many outcomes there are, and how many recipes' items are to be executed."""
        return len(self._outcomes), self._expected.total()

    def interrupted(self) -> list[Outcome]:
        """Return the outcomes of the runs that Ctrl-C or a signal interrupted."""
        return [outcome for outcome in self._outcomes.all() if outcome.reason == "interrupted"]

    def _add_of(self, node_id: str, outcomes: Sequence[Outcome]) -> None:
        self._arrived[node_id] += 1
        for outcome in outcomes:
            self._add_receipt(node_id, outcome, None)
            self._announce(self._add(outcome))

    def _add_those_of_workers(self) -> None:
        """Add the outcomes of runs that are still executed, which ends them, and those whose report was not read."""
        if self._file is not None:
            self._file.flush()  # to end a run takes seconds, and a cancelled job may not have them
        self._workers.end_runs()
        for node_id, outcomes in self._workers.outcomes():
            if new := [outcome for outcome in outcomes if outcome.id not in self._outcomes]:
                self._add_of(node_id, new)

    def _add(self, outcome: Outcome, tree: Mapping[str, Any] | None = None) -> Outcome:
        """Keep an outcome, and return it; one with the id of another gets a number, so that neither is lost.

        `tree`: its `to_dict`, where that is known already.
        """
        number = 1
        while (item_id := outcome.id if number == 1 else f"{outcome.id}#{number}") in self._outcomes:
            number += 1
        if item_id != outcome.id:
            outcome, tree = replace(outcome, id=item_id), None
        if self._file is None:
            self._outcomes.add(outcome, tree)
        else:
            self._file.add(outcome, tree)
            if self._config.option.smoke_tensorboard and (
                problem := write_event_file(outcome, self._config.option.smoke_report)
            ):
                self._problems.append(problem)
        return outcome

    @property
    def problems(self) -> list[str]:
        """What went wrong with the session itself, one sentence each."""
        return list(self._problems)

    @property
    def outcomes(self) -> list[Outcome]:
        """All outcomes, sorted by id."""
        return sorted(self._outcomes.all(), key=lambda outcome: outcome.id)

    @property
    def unexpected(self) -> list[Outcome]:
        """The outcomes, but for what tests that passed expected: smoke runs of theirs that were not promoted."""
        return [one for one in self.outcomes if one.promoted or one.id not in self._of_passed]

    def _add_receipt(self, node_id: str, outcome: Outcome, text: str | None) -> None:
        """Write the receipt of a recipe's item; without one, leave no older one, unless the item did not run."""
        if self._receipts is None or not smoke_ids([node_id], self._config):
            return
        if outcome.completed or outcome.reason in NOT_RUN:
            return
        try:
            receipt = replace(parse_receipt(text.encode(), node_id), id=node_id) if text is not None else None
            self._receipts.add(node_id, receipt)
        except (OSError, SmokeError) as error:
            why = error.strerror or error if isinstance(error, OSError) else error
            self._problems.append(f"the receipt of {node_id} could not be written: {why}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Add the outcomes that came on no report, write the reports, and fail a session that lacks one of these."""
        if not executes_items(self._config.option):
            return
        INTERRUPTION.keep_results()  # pytest does not expect a Ctrl-C here: no report would be written
        self.add_kept()
        if self._workers.has_workers:
            self._add_those_of_workers()
        self._add_missing(session)
        if self._file is not None:
            self._file.flush()
            self._problems += [self._file.problem] if self._file.problem else []
            with without_collection():
                self._problems += write_reports(self.outcomes, self._config.option.smoke_report)
        if self._problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _add_missing(self, session: pytest.Session) -> None:
        """Name the items without an outcome; unless the session ended early, each gets one that says so."""
        missing = sorted((self._expected - self._arrived).elements())
        if not missing:
            return
        runs, names = count(len(missing), "smoke run"), listed(missing)
        if session.shouldfail or self._was_not_started(session):  # as -x and --maxfail ask for
            self._notes.append(f"{runs} {'was' if len(missing) == 1 else 'were'} not executed: {names}")
            return
        lacking = "an outcome" if len(missing) == 1 else "outcomes"
        self._problems.append(f"the session ended without {lacking} of {runs}: {names}")
        if session.shouldstop or session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return
        for node_id in missing:
            text = "the item was collected, and pytest ended without a result of it"
            finding = Finding(id="run", status="fail", reason="no-outcome", text=text)
            self._announce(self._add(outcome_without_run(node_id, finding, config=self._config)))

    def _was_not_started(self, session: pytest.Session) -> bool:
        """Tell whether nothing was executed because a file could not be collected."""
        return session.exitstatus == pytest.ExitCode.INTERRUPTED and session.testsfailed > 0 and not self._arrived

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the closing section."""
        if self._outcomes:
            with without_collection():
                self._print_outcomes(terminalreporter)
        for note in self._notes:
            terminalreporter.ensure_newline()
            terminalreporter.write_line(note)
        for problem in self._problems:
            terminalreporter.ensure_newline()
            terminalreporter.write_line(f"ERROR: {problem}", red=True, bold=True)
        self._outcomes.pack()

    def _print_outcomes(self, terminalreporter: pytest.TerminalReporter) -> None:
        outcomes, width = self._outcomes.all(), terminal_width()
        verbose = self._config.getoption("verbose", 0) > 0
        terminalreporter.ensure_newline()  # else the first line below does it, and leaves an empty one
        terminalreporter.section("smoke runs")

        def write(line: str, **markup: bool) -> None:
            terminalreporter.write_line(without_commands(line) if in_github_workflow() else line, **markup)

        for line, verdict in verdict_table(outcomes, width=width):
            write(line, **{COLOURS.get(verdict, "red"): True})
        for line in warnings(outcomes, width=width, verbose=verbose):
            write(line, yellow=True)
        for line in not_shown(outcomes, width=width) if verbose else []:
            write(line)
        for line in unchecked(outcomes, width=width, verbose=verbose):
            write(line)
        for line in full_run_lines(outcomes, width=width) if verbose else []:
            write(line)
        for line in error_lines(outcomes, width=width):
            write(line)
        for outcome in self.outcomes:
            if outcome.facts.full_accept and (rows := acceptance_table(outcome, width=width - 2)):
                write("")
                write(f"acceptance of {outcome.id}", bold=True)
                for row in rows:
                    write(f"  {row}")
        for table in ablation_tables(outcomes, width=width):
            write("")
            for line, verdict in table:
                write(line, **{COLOURS.get(verdict, "red"): True})
        for outcome in outcomes:
            if outcome.promoted and outcome.facts.package:
                write(f"packaged in {from_start(Path(outcome.facts.package), self._config)}")
        if self._file is not None and not self._file.problem:
            folder = self._config.option.smoke_report
            page = INDEX if (folder / INDEX).is_file() else VERDICTS  # the page could not be written
            path = from_start(folder / page, self._config)
            write(f"report: {path}")
            if self._config.option.smoke_tensorboard and any(one.facts.steps for one in self.outcomes):
                write(f"to look at the curves: tensorboard --logdir {path.parent / FOLDER}")

    def _announce(self, outcome: Outcome) -> None:
        """Call `pytest_smoke_outcome`; if a plugin raises, warn and continue the session."""
        try:
            self._config.hook.pytest_smoke_outcome(config=self._config, outcome=outcome)
        except Exception as error:
            name, _, message = exception_text(error).partition(": ")
            text = f"pytest_smoke_outcome raised {name} for {outcome.id}: {message}"
            try:
                self._config.issue_config_time_warning(pytest.PytestWarning(text), stacklevel=2)
            except pytest.PytestWarning:  # under -W error, where pytest would take it for an internal error
                reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
                if reporter is not None:
                    reporter.ensure_newline()
                    reporter.write_line(f"warning: {text}", red=True)


def from_start(path: Path, config: pytest.Config) -> Path:
    """Return `path` relative to the folder that pytest was started in, if it is below that."""
    start = config.invocation_params.dir
    return path.relative_to(start) if path.is_relative_to(start) else path
