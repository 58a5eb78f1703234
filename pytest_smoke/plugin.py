"""pytest's hooks, a table of contents. Nothing heavy is imported before `--smoke` asks for it."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_smoke import options
from pytest_smoke.keys import BISECT_RESULT

if TYPE_CHECKING:
    from pytest_smoke.collect.fixture import Smokes

options.refuse_namesake()  # here, because pluggy refuses one module under two names before any hook runs


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_smoke import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    for marker in options.MARKERS:
        config.addinivalue_line("markers", marker)
    options.check(config)
    if config.option.smoke:
        from pytest_smoke.collect.session import configure

        configure(config)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if not parent.config.option.smoke:
        return None
    from pytest_smoke.collect.file import collector_of

    return collector_of(file_path, parent)


@pytest.hookimpl(tryfirst=True)  # whoever else orders items has the last word
def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    if config.option.smoke and hasattr(config, "workerinput"):
        from pytest_smoke.collect.start_order import order_items

        order_items(items, config)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not item.config.option.smoke and item.get_closest_marker("smoke"):
        options.skip_or_fail("smoke tests run only with --smoke", item.config)
    if mark := item.get_closest_marker("gpu"):
        from pytest_smoke.collect.devices import need_gpus

        need_gpus(mark, item.config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if item.config.option.smoke:
        from pytest_smoke.collect.item import attach

        attach(item, report)
    if BISECT_RESULT in item.stash:
        from pytest_smoke.collect.bisect import attach_bisect_result

        attach_bisect_result(item, report)
    return report


def pytest_report_teststatus(report: Any) -> tuple[str, str, Any] | None:
    if not hasattr(report, "smoke_outcomes"):
        return None
    from pytest_smoke.collect.summary import status_of

    return status_of(report)


@pytest.fixture
def smoke(request: pytest.FixtureRequest) -> Smokes:
    """Execute smoke runs from a test: `smoke("lm.smoke.yaml")` returns the outcome, whose verdict the test asserts."""
    if not request.config.option.smoke:
        options.skip_or_fail("the fixture smoke trains only with --smoke", request.config)
    from pytest_smoke.collect.fixture import Smokes

    return Smokes(request.node)
