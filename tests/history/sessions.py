"""Report folders of sessions that never ran, with the outcomes that a test needs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pytest_smoke.outcome import Facts, Finding, Outcome
from pytest_smoke.report.verdicts_json import verdicts_json

START = datetime(2026, 1, 5, 3, 0, tzinfo=UTC)
CRITERION = "accept[val_acc > 0.6]"


def outcome(
    at: int, *, name: str = "lm", accuracy: float = 0.8, commit: str = "", facts: dict[str, Any] | None = None
) -> Outcome:
    """Return the promotion of smoke run `name` on day `at`, whose criterion is `val_acc > 0.6`."""
    item_id = f"recipes/{name}.smoke.yaml::constant"
    known: dict[str, Any] = {
        "steps": 600,
        "planned_steps": 600,
        "device": "cpu",
        "device_name": "x86_64",
        "torch": "2.13.0",
        "precision": "fp32",
        "settings": {"learning_rate": 3e-3, "batch_size": 64},
        "loss_first": 2.0,
        "loss_last": 1.0 + 0.01 * at,
        "seconds": 12.0 + at,
        "samples_per_second": 5000.0,
        "started_at": (START + timedelta(days=at)).isoformat(),
        "git_commit": commit or f"{at:040x}",
        "trace_sha256": f"{name}{at}",
    }
    findings = (
        Finding(id="loss-trend", status="pass", text="the loss fell"),
        Finding(id=CRITERION, status="pass" if accuracy > 0.6 else "fail", text="", observed=accuracy, bound=0.6),
    )
    return Outcome(
        id=item_id,
        recipe=item_id.partition("::")[0],
        mode="constant",
        cell=None,
        verdict="promote" if accuracy > 0.6 else "hold",
        reason="" if accuracy > 0.6 else "criterion-failed",
        step=None,
        text="the loss fell" if accuracy > 0.6 else f"val_acc was {accuracy}, the recipe requires > 0.6",
        decided_by="" if accuracy > 0.6 else CRITERION,
        findings=findings,
        facts=Facts(**{**known, **(facts or {})}),
    )


def with_findings(one: Outcome, *findings: Finding) -> Outcome:
    """Return the outcome with other findings."""
    return replace(one, findings=findings)


def write(folder: Path, outcomes: Iterable[Outcome]) -> Path:
    """Write the `verdicts.json` of a session, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "verdicts.json"
    path.write_text(verdicts_json(outcomes))
    return path


def edit(path: Path, **facts: Any) -> None:
    """Change facts of the first outcome in a file."""
    tree = json.loads(path.read_text())
    tree["outcomes"][0]["facts"] |= facts
    path.write_text(json.dumps(tree))
