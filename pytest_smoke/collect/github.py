"""What a step of a GitHub workflow gets: a summary of its smoke runs, and annotations at the lines of recipes."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_smoke.collect.file import is_recipe
from pytest_smoke.collect.summary import Summary, from_start
from pytest_smoke.environment import in_github_workflow, repository_folder
from pytest_smoke.files import open_without_waiting
from pytest_smoke.plain import plain_name
from pytest_smoke.report.annotations import annotation_commands
from pytest_smoke.report.summary_markdown import LIMIT_BYTES, summary_markdown
from pytest_smoke.text import printable


class GitHub:
    """Writes after everything that pytest prints, so that nothing is captured, also after Ctrl-C."""

    def __init__(self, config: pytest.Config, summary: Summary) -> None:
        self._config, self._summary = config, summary
        self._faults: dict[str, list[str]] = {}
        """Faults of each recipe that cannot be read, by its id."""

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep the faults of a recipe, of which there will be no outcome."""
        if report.failed and is_recipe(report.nodeid, self._config):
            self._faults[report.nodeid] = report.longreprtext.splitlines()

    def pytest_unconfigure(self) -> None:
        """Append to the summary of the step, and print the annotations."""
        if not self._summary.outcomes and not self._faults:
            return
        faults = [fault for found in self._faults.values() for fault in found]
        if path := os.environ.get("GITHUB_STEP_SUMMARY"):
            try:
                self._append(Path(path), faults)
            except OSError as error:
                why = error.strerror or str(error)
                self._print(f"warning: the summary of the step could not be written to {plain_name(path)}: {why}")
        if in_github_workflow():
            strict = self._config.option.smoke_strict
            commands = annotation_commands(
                self._summary.unexpected, faults=faults, path_of=self._in_workspace, skips_fail=strict
            )
            for command in commands:
                self._print(command)

    def _append(self, path: Path, faults: Sequence[str]) -> None:
        """Append the summary, no larger than what earlier sessions of the step left room for. Raises OSError."""
        folder = self._config.option.smoke_report
        shown = plain_name(str(from_start(folder, self._config))) if folder is not None else ""
        with open(path, "ab", opener=open_without_waiting) as file:
            about = os.fstat(file.fileno())
            used = about.st_size if stat.S_ISREG(about.st_mode) else 0
            text = summary_markdown(
                self._summary.outcomes,
                folder=shown,
                problems=[*faults, *self._summary.problems],
                limit_bytes=LIMIT_BYTES - used - 1,
            )
            if text:
                file.write(f"{chr(10) if used else ''}{text}".encode())
            else:
                self._print("warning: the summary of the step is full: it has no room for the smoke runs")

    def _in_workspace(self, path: str) -> str:
        """Return a path relative to the checkout, of one relative to pytest's rootdir; empty if it is not in there."""
        root, workspace = self._config.rootpath, os.environ.get("GITHUB_WORKSPACE")
        if workspace:
            found = os.path.relpath(os.path.realpath(root / path), os.path.realpath(workspace))
        else:
            found = os.path.normpath(Path(repository_folder(root) or "", path))
        inside = not os.path.isabs(found) and Path(found).parts[:1] != (os.pardir,)
        return Path(found).as_posix() if inside else ""

    def _print(self, line: str) -> None:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:  # under -p no:terminal
            print(printable(line, sys.stdout.encoding), flush=True)
            return
        reporter.ensure_newline()
        reporter.write_line(line)
