"""What a session with `--smoke` sets up: its checks, and where its outcomes are reported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_smoke.collect.event_files import check_installed, remove_event_files
from pytest_smoke.collect.garbage import FewerCollections
from pytest_smoke.collect.interrupted import InterruptedAt
from pytest_smoke.collect.progress import SessionProgress
from pytest_smoke.collect.report_folder import PREFLIGHT_WRITE_SHARE, WRITE_SHARE, VerdictsFile, lock, set_aside, sweep
from pytest_smoke.collect.start_order import StartOrder
from pytest_smoke.collect.workers import WorkerFolder
from pytest_smoke.environment import in_github_workflow
from pytest_smoke.errors import SmokeError
from pytest_smoke.files import STALE, written_path
from pytest_smoke.interruption import INTERRUPTION
from pytest_smoke.judge.checks.check import Check
from pytest_smoke.judge.checks.registry import Registry
from pytest_smoke.keys import PROGRESS, REGISTRY, SUMMARY
from pytest_smoke.options import executes_items
from pytest_smoke.page.session_reports import remove_reports

if TYPE_CHECKING:
    from pytest_smoke.collect.summary import Summary
    from pytest_smoke.receipts.folder import ReceiptsFolder


def configure(config: pytest.Config) -> None:
    """Collect the checks of all plugins, and register the summary in the process that reports.

    Raises UsageError if a plugin adds something that is not a check, or a check with the id of another, and if the
    report folder cannot be written to or is that of another session.
    """
    try:
        config.stash[REGISTRY] = Registry(_added_checks(config))
    except SmokeError as error:
        raise pytest.UsageError(str(error)) from None
    if config.option.smoke_shard is not None:
        from pytest_smoke.collect.shard import Shard, ShardOfItems

        config.pluginmanager.register(ShardOfItems(Shard.of(config.option.smoke_shard)), "smoke-shard")
    config.add_cleanup(INTERRUPTION.install())
    if config.option.smoke_preflight:
        config.pluginmanager.register(FewerCollections(config), "smoke-garbage")
    if hasattr(config, "workerinput"):
        return
    file = None
    if config.option.smoke_report is not None and executes_items(config.option):
        if getattr(config.option, "dist", "no") == "each":
            raise pytest.UsageError(
                "--dist each executes each smoke run in every worker, and all of them would write the same traces and "
                "receipts: leave out --smoke-report, or use another --dist"
            )
        if config.option.smoke_tensorboard:
            check_installed()
        file = _open_report(config, config.option.smoke_report)
    workers = WorkerFolder(config)
    config.pluginmanager.register(workers, "smoke-workers")
    config.pluginmanager.register(StartOrder(config), "smoke-start-order")
    if config.option.smoke_bisect:
        from pytest_smoke.collect.bisect import BisectSummary

        config.pluginmanager.register(BisectSummary(config), "smoke-bisect-summary")
        progress = SessionProgress(config, workers)
        interrupted = InterruptedAt(config, list, otherwise="interrupted during the bisect")
    else:
        from pytest_smoke.collect.summary import Summary

        receipts = _receipts(config) if file is not None else None
        summary = Summary(config, file, workers, receipts)
        config.pluginmanager.register(summary, SUMMARY)
        progress = SessionProgress(config, workers, summary.counts)
        interrupted = InterruptedAt(config, summary.interrupted)
        _register_for_ci(config, summary)
        if config.option.smoke_executor != "local" and not config.option.smoke_preflight:
            _register_executor(config, summary)
    config.pluginmanager.register(interrupted, "smoke-interrupted")
    config.stash[PROGRESS] = progress
    config.pluginmanager.register(progress, "smoke-progress")


def _register_executor(config: pytest.Config, summary: Summary) -> None:
    from pytest_smoke.collect.executed import ExecutedRuns
    from pytest_smoke.monitor.ray_executor import RayExecutor

    _, _, address = config.option.smoke_executor.partition("=")
    executor = RayExecutor(address or None, excludes=config.getini("smoke_ray_excludes"))
    config.add_cleanup(executor.close)
    config.pluginmanager.register(ExecutedRuns(config, executor, summary), "smoke-executor")


def _register_for_ci(config: pytest.Config, summary: Summary) -> None:
    """Register what writes for CI systems, where the session is asked for it or runs in one."""
    if config.getini("smoke_junit_properties") == "testsuite":
        from pytest_smoke.collect.junit import SuiteProperties

        config.pluginmanager.register(SuiteProperties(config), "smoke-junit")
    if in_github_workflow() or os.environ.get("GITHUB_STEP_SUMMARY"):
        from pytest_smoke.collect.github import GitHub

        config.pluginmanager.register(GitHub(config, summary), "smoke-github")


def _receipts(config: pytest.Config) -> ReceiptsFolder:
    """Return the folder of receipts. Raises UsageError if they cannot be signed: better now than after training."""
    from pytest_smoke.receipts.folder import ReceiptsFolder  # imports pydantic
    from pytest_smoke.receipts.signing import sign

    key = config.option.smoke_sign_key
    if key is not None:
        try:
            sign(b"pytest-smoke", key, namespace="pytest-smoke-trial")
        except SmokeError as error:
            raise pytest.UsageError(f"--smoke-sign-key: {error}") from None
    return ReceiptsFolder(config.option.smoke_report, key=key)


def _open_report(config: pytest.Config, folder: Path) -> VerdictsFile | None:
    """Lock the report folder until the session ends, and set aside what is in it; return its `verdicts.json`, empty.

    An old file cannot be taken for this session's then. None for a bisect, which has none.
    """
    try:
        config.add_cleanup(lock(folder))
        sweep(folder)
        set_aside(folder, bisect=bool(config.option.smoke_bisect))
        remove_reports(folder)
        if (folder / STALE).is_dir():
            remove_reports(folder / STALE)  # somebody had them made there, of other outcomes
        remove_event_files(folder)
        if config.option.smoke_bisect:
            return None
        preflights = config.option.smoke_preflight
        file = VerdictsFile(folder, write_share=PREFLIGHT_WRITE_SHARE if preflights else WRITE_SHARE)
        file.create()
    except SmokeError as error:
        raise pytest.UsageError(f"--smoke-report: {error}") from None
    except OSError as error:
        problem = f"cannot write {written_path(error) or folder}: {error.strerror or error}"
        raise pytest.UsageError(f"--smoke-report {folder}: {problem}") from None
    return file


def _added_checks(config: pytest.Config) -> Iterator[Check]:
    for returned in config.hook.pytest_smoke_checks(config=config):
        if not isinstance(returned, list | tuple) or not all(isinstance(check, Check) for check in returned):
            raise SmokeError(f"pytest_smoke_checks returned {returned!r:.200}; it must return a list of Check objects")
        yield from returned
