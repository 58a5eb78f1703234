"""The `sources` check: recipe and code stayed as they were when the smoke run read them."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_smoke.judge.checks.check import Check, Reason
from pytest_smoke.outcome import Finding
from pytest_smoke.text import listed

CHECK = Check(
    id="sources",
    question="Did the recipe, the task and the files they use stay as they were when the smoke run read them?",
    when="end",
    verdict="invalid",
    key="task",
    reasons=(
        Reason(
            id="edited-during-run",
            status="fail",
            when="a file was edited after the recipe was read, so the verdict may not apply to the current files",
        ),
    ),
)


def sources(edited: Sequence[str], *, before_run: bool = False) -> Finding:
    """Return the finding about the files that differ from what was read; `edited`: as paths for messages."""
    if not edited:
        return Finding(id=CHECK.id, status="pass", text="recipe and code are unchanged since they were read")
    verb = "was" if len(edited) == 1 else "were"
    when = "before the smoke run started" if before_run else "during the smoke run"
    return Finding(
        id=CHECK.id,
        status="fail",
        reason="edited-during-run",
        text=f"{listed(edited)} {verb} edited {when}, so a verdict may not apply to the current files",
        hint="run it again, and do not edit its files before it ends",
        place=f"{edited[0]}:1",
        data={"edited": list(edited)},
    )
