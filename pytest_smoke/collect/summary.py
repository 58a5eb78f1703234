"""The controller's side: outcomes come in on test reports, a table and a file go out."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_smoke.files import write_atomic
from pytest_smoke.keys import OUTCOMES
from pytest_smoke.options import RECIPE_GLOB
from pytest_smoke.outcome import Outcome
from pytest_smoke.report.acceptance import acceptance
from pytest_smoke.report.campaign import campaign_table, campaigns
from pytest_smoke.report.full_run_estimate import ahead
from pytest_smoke.report.prediction_errors import error_lines
from pytest_smoke.report.terminal import verdict_table, warnings
from pytest_smoke.report.verdicts_json import verdicts_json

COLOURS = {"promote": "green", "": "bold"}
"""Markup of a table row by verdict; red where not named."""
SAID_NOTHING = {"preflight": "p", "wiring": "w"}
"""Letters of the two kinds of run that are never a verdict."""


def attach(item: pytest.Item, report: pytest.TestReport) -> None:
    """Put the item's outcomes on its report, as builtins: they cross to xdist's controller with it."""
    outcomes = item.stash.get(OUTCOMES, [])
    if outcomes and (report.when == "call" or (report.when == "setup" and report.failed)):
        report.smoke_outcomes = [outcome.to_dict() for outcome in outcomes]  # type: ignore[attr-defined]  # our own


def outcomes_on(report: pytest.TestReport) -> list[Outcome]:
    """The inverse of `attach`; empty for any other report."""
    return [Outcome.from_dict(wire) for wire in getattr(report, "smoke_outcomes", [])]


def status_of(report: pytest.TestReport) -> tuple[str, str, Any] | None:
    """Category, letter and word of a recipe's item; None leaves it to pytest."""
    outcomes = outcomes_on(report)
    if len(outcomes) != 1 or outcomes[0].id != report.nodeid:
        return None
    outcome = outcomes[0]
    if report.passed:
        return "passed", ".", ("PROMOTE", {"green": True})
    if report.skipped and outcome.reason in SAID_NOTHING:
        return f"{outcome.reason} ok", SAID_NOTHING[outcome.reason], (f"{outcome.reason.upper()} OK", {"yellow": True})
    if report.failed:
        return "failed", "F", (outcome.verdict.upper(), {"red": True})
    return None


class Summary:
    """Collects outcomes where there is one of it: the controller, or the only process."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._outcomes: dict[str, Outcome] = {}

    def pytest_sessionstart(self) -> None:
        """Yesterday's verdicts must not be read as today's."""
        if not self._config.option.collectonly:
            self._write()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what came in, and write it at once: a session that is killed later loses nothing."""
        came = outcomes_on(report) or _lost(report)
        if came:
            self._outcomes |= {outcome.id: outcome for outcome in came}
            self._write()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The closing table, and a table for each recipe of which several cells ran."""
        if not self._outcomes:
            return
        terminalreporter.section("smokes")
        for line, verdict in verdict_table(self._outcomes.values()):
            terminalreporter.write_line(line, **{COLOURS.get(verdict, "red"): True})
        for line in ahead(self._outcomes.values()):
            terminalreporter.write_line(line)
        for line in error_lines(self._outcomes.values()):
            terminalreporter.write_line(line)
        for outcome in sorted(self._outcomes.values(), key=lambda outcome: outcome.id):
            if outcome.facts.get("full_accept") and (rows := acceptance(outcome)):
                terminalreporter.write_line(f"acceptance of {outcome.id}")
                for row in rows:
                    terminalreporter.write_line(f"  {row}")
        for line in warnings(self._outcomes.values()):
            terminalreporter.write_line(line, yellow=True)
        for campaign in campaigns(self._outcomes.values()):
            terminalreporter.write_line("")
            for line, verdict in campaign_table(campaign):
                terminalreporter.write_line(line, **{COLOURS.get(verdict, "red"): True})
        for outcome in self._outcomes.values():
            if outcome.promoted and "package" in outcome.facts:
                terminalreporter.write_line(f"packaged in {outcome.facts['package']}")
        if self._config.option.smoke_report:
            terminalreporter.write_line(f"written to {self._config.option.smoke_report / 'verdicts.json'}")

    def _write(self) -> None:
        folder = self._config.option.smoke_report
        if folder is not None:
            write_atomic(folder / "verdicts.json", verdicts_json(self._outcomes.values()))


def _lost(report: pytest.TestReport) -> list[Outcome]:
    """A recipe's item whose xdist worker died: its report is synthetic and carries nothing of ours."""
    path, _, name = report.nodeid.partition("::")
    if report.when != "???" or not path.endswith(RECIPE_GLOB.removeprefix("*")):  # type: ignore[comparison-overlap]  # xdist's own
        return []
    mode, _, cell = name.partition("[")
    return [
        Outcome(
            id=report.nodeid,
            recipe=path,
            mode=mode,
            cell=cell.removesuffix("]") or None,
            verdict="error",
            reason="worker-crash",
            step=None,
            text="the xdist worker that conducted it died",
            findings=(),
        )
    ]
