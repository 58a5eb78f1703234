"""What a session with `--smoke` sets up: its checks, and where its outcomes are reported."""

from __future__ import annotations

import pytest

from pytest_smoke.errors import SmokeError
from pytest_smoke.judge.checks.registry import Registry
from pytest_smoke.keys import REGISTRY


def configure(config: pytest.Config) -> None:
    """Collect the checks of all plugins, and register the summary in the process that reports.

    Raises UsageError if a plugin adds a check with the id of another.
    """
    added = [check for checks in config.pluginmanager.hook.pytest_smoke_checks(config=config) for check in checks]
    try:
        config.stash[REGISTRY] = Registry(added)
    except SmokeError as error:
        raise pytest.UsageError(str(error)) from None
    if hasattr(config, "workerinput"):
        return
    if config.option.smoke_bisect:
        from pytest_smoke.collect.bisect import BisectSummary

        config.pluginmanager.register(BisectSummary(config), "smoke-bisect-summary")
    else:
        from pytest_smoke.collect.summary import Summary

        config.pluginmanager.register(Summary(config), "smoke-summary")
