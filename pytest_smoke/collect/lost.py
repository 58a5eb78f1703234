"""Outcomes of recipes' items that executed no smoke run: their worker died, their setup failed, pytest skipped them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from pytest_smoke.collect.file import is_recipe
from pytest_smoke.environment import git_commit, repository_folder, versions
from pytest_smoke.judge.verdict import decide
from pytest_smoke.options import MODES
from pytest_smoke.outcome import Facts, Finding, Outcome, Status
from pytest_smoke.plain import plain_text

_NAME = re.compile(rf"(?P<path>.*?)::(?P<mode>{'|'.join(MODES)})(\[(?P<cell>.*)\])?", re.DOTALL)
"""A recipe's item: the file, the mode, and perhaps an ablation cell."""


def smoke_ids(node_ids: Iterable[str], config: pytest.Config) -> list[str]:
    """Return the ids of recipes' items among those of a pytest-xdist worker, which sends nothing but ids."""
    matches = ((node_id, _NAME.fullmatch(node_id)) for node_id in node_ids)
    return [node_id for node_id, match in matches if match and is_recipe(match["path"], config)]


def lost_outcome(report: pytest.TestReport, config: pytest.Config) -> Outcome | None:
    """Return the outcome of a recipe's item whose report has none; None for every other report."""
    if report.when == "???":  # type: ignore[comparison-overlap]  # pytest-xdist's own
        reason, status, text = "worker-crash", "fail", "the pytest-xdist worker that executed the run died"
    elif report.when == "setup" and report.skipped:
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason, status, text = "skipped", "not-checked", why.removeprefix("Skipped: ")
    elif report.when == "setup" and report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        lines = str(crash.message if crash is not None else report.longreprtext).splitlines() or ["no reason is known"]
        reason, status, text = "setup-failed", "fail", f"its setup failed: {lines[0]}"
    else:
        return None
    if not smoke_ids([report.nodeid], config):
        return None
    return outcome_without_run(report.nodeid, reason, text, status=status, config=config)  # type: ignore[arg-type]  # one of the above


def outcome_without_run(
    node_id: str, reason: str, text: str, *, status: Status = "fail", config: pytest.Config
) -> Outcome:
    """Return the outcome of a recipe's item of which nothing is known but its id."""
    match = _NAME.fullmatch(node_id)
    path, mode, cell = (match["path"], match["mode"], match["cell"]) if match else (node_id, "", None)
    finding = Finding(id="run", status=status, reason=reason, text=plain_text(text))
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
            repository_folder=repository_folder(config.rootpath),
            git_commit=git_commit(config.rootpath),
            versions=versions(),
        ),
    )
