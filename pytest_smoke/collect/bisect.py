"""`--smoke-bisect GOOD BAD` as the one item of a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.bisect.cache import VerdictCache
from pytest_smoke.bisect.search import Bisection
from pytest_smoke.collect.devices import need_device
from pytest_smoke.collect.item import run_with_options
from pytest_smoke.collect.progress import say
from pytest_smoke.criteria import parse
from pytest_smoke.errors import BisectStateError, RecipeError
from pytest_smoke.keys import BISECT_RESULT
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.load import load_cases
from pytest_smoke.report.bisect import BisectResult, BisectTrial, line, summary

STATE = "bisect.json"
COLOURS = {"promote": "green", "": "bold"}
"""Markup of a line by the verdict it speaks of; red where not named."""


class BisectFailedError(Exception):
    """A bisect without an answer; its text is the sentence that says why."""


class BisectFile(pytest.File):
    """The unstable recipe, whose only item is the bisect."""

    def collect(self) -> Iterator[BisectItem]:
        """One item. Raises CollectError with what is wrong with the recipes or their names."""
        try:
            good, bad = (_case(named, self.config) for named in self.config.option.smoke_bisect)
        except (RecipeError, LookupError) as error:
            raise self.CollectError(str(error.args[0] if isinstance(error, LookupError) else error)) from None
        yield BisectItem.from_parent(self, name="bisect", good=good, bad=bad)


class BisectItem(pytest.Item):
    """Conducts smokes between two recipes until the settings that matter are found."""

    def __init__(self, *, good: Case, bad: Case, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.good, self.bad = good, bad
        self.add_marker("smoke")

    def runtest(self) -> None:
        """Search. Raises NothingFound where there is no answer."""
        option = self.config.option
        path = option.smoke_report / STATE if option.smoke_report else None
        try:
            decided = VerdictCache(path)
        except (BisectStateError, OSError) as error:
            raise BisectFailedError(str(error)) from None
        device = need_device(self.bad.recipe.requires, self.config)
        bisection = Bisection(
            self.good,
            self.bad,
            names=tuple(option.smoke_bisect),
            root=self.config.rootpath,
            device=device,
            run_smoke=lambda case, name: (
                run_with_options(self.config, case, device=device, id=f"{self.nodeid}#{name}").outcome
            ),
            decided=decided,
            said=self._say,
        )
        try:
            bisected = bisection.run()
        except KeyboardInterrupt:
            say(self.config, self._how_to_go_on(len(decided), path))
            raise
        self.stash[BISECT_RESULT] = bisected
        self.user_properties.append(("smoke_bisect", bisected.text))
        if not bisected.found:
            raise BisectFailedError(bisected.text)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        """The sentence alone, where that is all there is to say."""
        return str(excinfo.value) if isinstance(excinfo.value, BisectFailedError) else super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the item comes from."""
        return self.path, None, "bisect {}..{}".format(*self.config.option.smoke_bisect)

    def _say(self, tried: BisectTrial, number: int, of: int) -> None:
        say(self.config, f"  {line(tried, number=number, of=of)}")

    def _how_to_go_on(self, count: int, path: Path | None) -> str:
        smokes = f"{count} smoke{'s' * (count != 1)} decided"
        if path is None:
            return f"{smokes}, and nothing is kept without --smoke-report DIR"
        return f"{smokes}, kept in {path}: the same command goes on from there"


class BisectSummary:
    """Says in the terminal what came in on the report of the bisect's item."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._bisected: BisectResult | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep it."""
        if wire := getattr(report, "smoke_bisected", None):
            self._bisected = BisectResult.from_dict(wire)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The smokes it rests on, and the answer."""
        if self._bisected is None:
            return
        terminalreporter.section("bisect")
        for text, verdict in summary(self._bisected):
            terminalreporter.write_line(text, **{COLOURS.get(verdict, "red"): True})
        if self._config.option.smoke_report:
            terminalreporter.write_line(f"written to {self._config.option.smoke_report / STATE}")


def attach_bisect_result(item: pytest.Item, report: pytest.TestReport) -> None:
    """Put what was found on the item's report, as builtins: it crosses to xdist's controller with it."""
    if report.when == "call":
        report.smoke_bisected = item.stash[BISECT_RESULT].to_dict()  # type: ignore[attr-defined]  # our own


def _case(named: str, config: pytest.Config) -> Case:
    """The case that `FILE`, `FILE::CELL` or an item's id names. Raises RecipeError, and LookupError for other names."""
    path, _, name = named.partition("::")
    cases = load_cases(
        config.invocation_params.dir / path,
        root=config.rootpath,
        mode=config.option.smoke_mode,
        parse_criterion=parse,
    )
    meant = [case for case in cases if name in (case.name, case.cell or "")]
    if len(meant) != 1:
        names = ", ".join(f"{path}::{case.name}" for case in cases)
        raise LookupError(f"--smoke-bisect {named} names {len(meant)} of its smokes; it must name one: {names}")
    return meant[0]
