"""The figures of smoke runs as properties of the whole JUnit test suite, where strict readers accept them."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_smoke.collect.summary import outcomes_on
from pytest_smoke.report.terminal import properties


class SuiteProperties:
    """Adds each property with the id of its smoke run: `smoke_verdict[lm.smoke.yaml::constant]`."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hand the properties to pytest's writer of JUnit XML, if this session has one."""
        outcomes = outcomes_on(report)
        if not outcomes:
            return
        # pytest offers this method to tests only, through a fixture that does not work under pytest-xdist.
        writers: list[Any] = [one for one in self._config.pluginmanager.get_plugins() if _is_writer(one)]
        for outcome in outcomes:
            for name, value in properties(outcome):
                for writer in writers:
                    writer.add_global_property(f"{name}[{outcome.id}]", value)


def _is_writer(plugin: object) -> bool:
    return hasattr(plugin, "add_global_property")
