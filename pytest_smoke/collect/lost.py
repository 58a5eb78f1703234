"""Outcomes of recipes' items that executed no smoke run: their worker died, their setup failed, pytest skipped them."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest

from pytest_smoke.collect.file import is_recipe
from pytest_smoke.collect.item import rerun_options_of
from pytest_smoke.collect.workers import WorkerFolder, exit_status
from pytest_smoke.environment import git_commit, repository_folder, versions
from pytest_smoke.judge.verdict import decide
from pytest_smoke.options import MODES
from pytest_smoke.outcome import Facts, Finding, Outcome
from pytest_smoke.plain import plain_text
from pytest_smoke.train.endings import how_it_ended

_NAME = re.compile(rf"(?P<path>.*?)::(?P<mode>{'|'.join(MODES)})(\[(?P<cell>.*)\])?", re.DOTALL)
"""A recipe's item: the file, the mode, and perhaps an ablation cell."""


def smoke_ids(node_ids: Iterable[str], config: pytest.Config) -> list[str]:
    """Return the ids of recipes' items among those of a pytest-xdist worker, which sends nothing but ids."""
    matches = ((node_id, _NAME.fullmatch(node_id)) for node_id in node_ids)
    return [node_id for node_id, match in matches if match and is_recipe(match["path"], config)]


def lost_outcome(report: pytest.TestReport, config: pytest.Config, workers: WorkerFolder) -> Outcome | None:
    """Return the outcome of a recipe's item whose report has none; None for every other report."""
    finding = _finding(report, workers)
    if finding is None or not smoke_ids([report.nodeid], config):
        return None
    return outcome_without_run(report.nodeid, finding, config=config)


def has_crashed(report: pytest.TestReport) -> bool:
    """Tell whether pytest-xdist has made a report because a worker died."""
    when: str = report.when
    return when == "???"


def _finding(report: pytest.TestReport, workers: WorkerFolder) -> Finding | None:
    if has_crashed(report):
        return _worker_crash(report, workers.lost_steps(report.nodeid))
    if report.when == "setup" and report.skipped:
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        text = plain_text(why.removeprefix("Skipped: "))
        return Finding(id="run", status="not-checked", reason="skipped", text=text)
    if report.when == "setup" and report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        lines = str(crash.message if crash is not None else report.longreprtext).splitlines() or ["no reason is known"]
        return Finding(id="run", status="fail", reason="setup-failed", text=plain_text(f"its setup failed: {lines[0]}"))
    return None


def _worker_crash(report: pytest.TestReport, steps: int | None) -> Finding:
    """Return what is known of a run whose worker died. `steps`: how many it had reported; None if it is not known."""
    node = getattr(report, "node", None)
    status, name = exit_status(node), getattr(getattr(node, "gateway", None), "id", "")
    ended = how_it_ended(status) if status is not None else "died"
    reached = "" if steps is None else f"; its smoke run had reported {f'step {steps - 1}' if steps else 'no step'}"
    return Finding(
        id="run",
        status="fail",
        reason="worker-crash",
        text=f"the pytest-xdist worker {name} {ended}{reached}",
        step=steps - 1 if steps else None,
        hint="if memory ran out, start fewer workers with -n" if status == -signal.SIGKILL else "",
    )


def outcome_without_run(node_id: str, finding: Finding, *, config: pytest.Config) -> Outcome:
    """Return the outcome of a recipe's item of which nothing is known but its id, and why there is nothing else."""
    match = _NAME.fullmatch(node_id)
    path, mode, cell = (match["path"], match["mode"], match["cell"]) if match else (node_id, "", None)
    verdict = decide([finding])
    return Outcome(
        id=node_id,
        recipe=Path(path).as_posix(),
        mode=mode,
        cell=cell or None,
        verdict=verdict.word,
        reason=verdict.reason,
        step=None,
        text=verdict.text,
        decided_by=verdict.decided_by,
        findings=(finding,),
        facts=Facts(
            rerun_options=rerun_options_of(config),
            repository_folder=repository_folder(config.rootpath),
            git_commit=git_commit(config.rootpath),
            versions=versions(),
        ),
    )
