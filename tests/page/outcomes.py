"""Outcomes for pages."""

from __future__ import annotations

from typing import Any

from pytest_smoke.outcome import Facts, Finding, Outcome, VerdictWord


def an_outcome(item_id: str = "a.smoke.yaml::constant", verdict: VerdictWord = "promote", **facts: Any) -> Outcome:
    finding = Finding(id="loss-trend", status="pass" if verdict == "promote" else "fail", text="the loss did not rise")
    return Outcome(
        id=item_id,
        recipe=item_id.partition("::")[0],
        mode="constant",
        cell=None,
        verdict=verdict,
        reason="" if verdict == "promote" else "rise",
        step=None,
        text=finding.text,
        decided_by=finding.id,
        findings=(finding,),
        facts=Facts(**{"steps": 2, "planned_steps": 2, **facts}),
        curve={"step": [0, 1], "loss": [2.5, 1.5]},
    )
