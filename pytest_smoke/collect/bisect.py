"""`--smoke-bisect GOOD BAD`: the one item of its session, and its summary."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.bisect.cache import VerdictCache
from pytest_smoke.bisect.result import BisectResult, BisectTrial
from pytest_smoke.bisect.search import Bisection
from pytest_smoke.collect.devices import need_device
from pytest_smoke.collect.item import run_with_options
from pytest_smoke.collect.progress import say, terminal_width
from pytest_smoke.collect.summary import from_start
from pytest_smoke.collect.workers import worker_of
from pytest_smoke.errors import BisectStateError, SmokeError
from pytest_smoke.files import BISECT
from pytest_smoke.keys import BISECT_RESULT
from pytest_smoke.options import allowed_code
from pytest_smoke.outcome import Outcome
from pytest_smoke.page.report import INDEX, bisect_page
from pytest_smoke.page.session_reports import write_report
from pytest_smoke.plain import plain_text
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.load import load_cases
from pytest_smoke.report.bisect import bisect_summary, trial_line
from pytest_smoke.text import count

COLOURS = {"promote": "green", "": "bold"}
"""Markup of a line by its verdict; red for any other."""


class BisectFailedError(Exception):
    """A bisect found no answer; the text says why."""


class BisectFile(pytest.File):
    """The unstable recipe, whose only item is the bisect."""

    def collect(self) -> Iterator[BisectItem]:
        """Yield one item. Raises CollectError with what is wrong with the recipes or their names."""
        try:
            good, bad = (_case(named, self.config) for named in self.config.option.smoke_bisect)
        except SmokeError as error:
            raise self.CollectError(plain_text(str(error))) from None
        yield BisectItem.from_parent(self, name="bisect", good=good, bad=bad)


class BisectItem(pytest.Item):
    """Executes smoke runs between two recipes until the settings that matter are found."""

    def __init__(self, *, good: Case, bad: Case, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.good, self.bad = good, bad
        self.add_marker("smoke")

    def runtest(self) -> None:
        """Search. Raises BisectFailedError if there is no answer."""
        option = self.config.option
        path = option.smoke_report / BISECT if option.smoke_report else None
        try:
            cache = VerdictCache(path)
        except (BisectStateError, OSError) as error:
            raise BisectFailedError(str(error)) from None
        device = need_device(self.bad.recipe, self.config)
        bisection = Bisection(
            self.good,
            self.bad,
            names=tuple(option.smoke_bisect),
            root=self.config.rootpath,
            device=device,
            run_smoke=lambda case, name: self._run(case, device=device, name=name),
            cache=cache,
            on_trial=self._on_trial,
        )
        try:
            result = bisection.run()
        except KeyboardInterrupt:
            say(self.config, self._how_to_resume(len(cache), path))
            raise
        self.stash[BISECT_RESULT] = result
        self.user_properties.append(("smoke_bisect", result.text))
        if not result.found:
            raise BisectFailedError(result.text)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        """Return the sentence alone if the bisect found no answer."""
        return str(excinfo.value) if isinstance(excinfo.value, BisectFailedError) else super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the item comes from."""
        return self.path, None, "bisect {}..{}".format(*self.config.option.smoke_bisect)

    def _run(self, case: Case, *, device: str, name: str) -> Outcome:
        result = run_with_options(self.config, case, device=device, item_id=f"{self.nodeid}#{name}")
        if (worker := worker_of(self.config)) is not None:
            worker.hide()
        if result.interrupt is not None:
            raise result.interrupt
        return result.outcome

    def _on_trial(self, trial: BisectTrial, number: int, settings: int) -> None:
        say(self.config, f"  {trial_line(trial, number=number, of=settings)}")

    def _how_to_resume(self, finished: int, path: Path | None) -> str:
        runs = count(finished, "smoke run")
        if path is None:
            return f"{runs} finished; no verdict is kept, because --smoke-report DIR was not given"
        whose = "its verdict is" if finished == 1 else "their verdicts are"
        return f"{runs} finished, {whose} in {path}: rerun the same command to continue"


class BisectSummary:
    """Prints the result that arrived on the report of the bisect's item."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._result: BisectResult | None = None
        self._problem = ""
        """Why the page could not be written; empty if it was."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the result."""
        if tree := getattr(report, "smoke_bisect_result", None):
            self._result = BisectResult.from_dict(tree)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the page of the result, and fail the session if that fails."""
        if self._result is None or not (folder := self._config.option.smoke_report):
            return
        self._problem = write_report(folder / INDEX, partial(bisect_page, self._result))
        if self._problem and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the trials and the answer."""
        if self._result is None:
            return
        terminalreporter.ensure_newline()  # else the first line below does it, and leaves an empty one
        terminalreporter.section("bisect")
        for text, verdict in bisect_summary(self._result, width=terminal_width()):
            terminalreporter.write_line(text, **{COLOURS.get(verdict, "red"): True})
        if self._config.option.smoke_report:
            page = INDEX if not self._problem else BISECT
            path = from_start(self._config.option.smoke_report / page, self._config)
            terminalreporter.write_line(f"report: {path}")
        if self._problem:
            terminalreporter.write_line(f"ERROR: {self._problem}", red=True, bold=True)


def attach_bisect_result(item: pytest.Item, report: pytest.TestReport) -> None:
    """Put the result on the item's report as builtins, which pytest-xdist sends to its controller."""
    if report.when == "call":
        report.smoke_bisect_result = item.stash[BISECT_RESULT].to_dict()  # type: ignore[attr-defined]  # our own


def _case(named: str, config: pytest.Config) -> Case:
    """Return the case that `FILE`, `FILE::CELL` or an item's id names. Raises RecipeError and SmokeError."""
    path, _, name = named.partition("::")
    cases = load_cases(
        config.invocation_params.dir / path,
        root=config.rootpath,
        mode=config.option.smoke_mode,
        allowed=allowed_code(config),
    )
    matching = [case for case in cases if name in (case.name, case.cell or "")]
    if len(matching) != 1:
        names = ", ".join(f"{path}::{case.name}" for case in cases)
        raise SmokeError(f"--smoke-bisect {named} matches {len(matching)} smoke runs, not one; there are: {names}")
    return matching[0]
