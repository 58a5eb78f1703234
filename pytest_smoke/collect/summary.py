"""Collects outcomes from test reports in the process that reports, and prints and writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.collect.progress import terminal_width
from pytest_smoke.environment import git_commit, versions
from pytest_smoke.files import VERDICTS, write_atomic
from pytest_smoke.options import RECIPE_GLOB
from pytest_smoke.outcome import Facts, Finding, Outcome
from pytest_smoke.report.ablations import ablation_tables
from pytest_smoke.report.acceptance import acceptance_table
from pytest_smoke.report.full_run_estimate import full_run_lines
from pytest_smoke.report.prediction_errors import error_lines
from pytest_smoke.report.terminal import label, verdict_table, warnings
from pytest_smoke.report.verdicts_json import verdicts_json

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
    """Return category, letter and word of a recipe's item; None leaves them to pytest."""
    outcomes = outcomes_on(report)
    if len(outcomes) != 1 or outcomes[0].id != report.nodeid:
        return None
    outcome = outcomes[0]
    if report.passed:
        return "passed", ".", ("PROMOTE", {"green": True})
    if report.skipped and (done := outcome.completed):
        return label(outcome), LETTERS[done], (label(outcome).upper(), {"green": True})
    if report.failed:
        return "failed", "F", (outcome.verdict.upper(), {"red": True})
    return None


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

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._outcomes: dict[str, Outcome] = {}

    def pytest_sessionstart(self) -> None:
        """Write an empty `verdicts.json`, so that an old one cannot be taken for this session's."""
        if not self._config.option.collectonly:
            self._write()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the outcomes of a report and write them at once, so that a killed session loses none."""
        arrived = outcomes_on(report) or _lost(report, self._config)
        if not arrived:
            return
        if report.failed and isinstance(report.longrepr, str) and arrived[0].id == report.nodeid:
            report.longrepr = FailureText(report.longrepr)
        self._outcomes |= {outcome.id: outcome for outcome in arrived}
        self._write()
        for outcome in arrived:
            self._announce(outcome)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the closing section."""
        if not self._outcomes:
            return
        outcomes, width = list(self._outcomes.values()), terminal_width()
        verbose = self._config.option.verbose > 0
        terminalreporter.ensure_newline()  # else the first line below does it, and leaves an empty one
        terminalreporter.section("smoke runs")
        for line, verdict in verdict_table(outcomes, width=width):
            terminalreporter.write_line(line, **{COLOURS.get(verdict, "red"): True})
        for line in warnings(outcomes, width=width, verbose=verbose):
            terminalreporter.write_line(line, yellow=True)
        for line in full_run_lines(outcomes, width=width) if verbose else []:
            terminalreporter.write_line(line)
        for line in error_lines(outcomes, width=width):
            terminalreporter.write_line(line)
        for outcome in sorted(outcomes, key=lambda outcome: outcome.id):
            if outcome.facts.full_accept and (rows := acceptance_table(outcome, width=width - 2)):
                terminalreporter.write_line("")
                terminalreporter.write_line(f"acceptance of {outcome.id}", bold=True)
                for row in rows:
                    terminalreporter.write_line(f"  {row}")
        for table in ablation_tables(outcomes, width=width):
            terminalreporter.write_line("")
            for line, verdict in table:
                terminalreporter.write_line(line, **{COLOURS.get(verdict, "red"): True})
        for outcome in self._outcomes.values():
            if outcome.promoted and outcome.facts.package:
                terminalreporter.write_line(f"packaged in {from_start(Path(outcome.facts.package), self._config)}")
        if self._config.option.smoke_report:
            path = from_start(self._config.option.smoke_report / VERDICTS, self._config)
            terminalreporter.write_line(f"written to {path}")

    def _announce(self, outcome: Outcome) -> None:
        """Call `pytest_smoke_outcome`; if a plugin raises, warn and continue the session."""
        try:
            self._config.hook.pytest_smoke_outcome(config=self._config, outcome=outcome)
        except Exception as error:
            text = f"pytest_smoke_outcome raised {type(error).__name__} for {outcome.id}: {error}"
            try:
                self._config.issue_config_time_warning(pytest.PytestWarning(text), stacklevel=2)
            except pytest.PytestWarning:  # under -W error, where pytest would take it for an internal error
                reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
                if reporter is not None:
                    reporter.ensure_newline()
                    reporter.write_line(f"warning: {text}", red=True)

    def _write(self) -> None:
        folder = self._config.option.smoke_report
        if folder is not None:
            write_atomic(folder / VERDICTS, verdicts_json(self._outcomes.values()))


def from_start(path: Path, config: pytest.Config) -> Path:
    """Return `path` relative to the folder that pytest was started in, if it is below that."""
    start = config.invocation_params.dir
    return path.relative_to(start) if path.is_relative_to(start) else path


def _lost(report: pytest.TestReport, config: pytest.Config) -> list[Outcome]:
    """Return the outcome of an item whose pytest-xdist worker died: its report is synthetic and has no outcome."""
    path, _, name = report.nodeid.partition("::")
    if report.when != "???" or not path.endswith(RECIPE_GLOB.removeprefix("*")):  # type: ignore[comparison-overlap]  # xdist's own
        return []
    mode, _, cell = name.partition("[")
    finding = Finding(
        id="run",
        status="fail",
        reason="worker-crash",
        text="the pytest-xdist worker that executed the run died",
    )
    return [
        Outcome(
            id=report.nodeid,
            recipe=path,
            mode=mode,
            cell=cell.removesuffix("]") or None,
            verdict="error",
            reason=finding.reason,
            step=None,
            text=finding.text,
            decided_by=finding.id,
            findings=(finding,),
            facts=Facts(git_commit=git_commit(config.rootpath), versions=versions()),
        )
    ]
