"""Outcomes for pages."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from pytest_smoke.outcome import Facts, Finding, Outcome, StageFacts, VerdictWord

HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>'\"`${7*7}<!--\u2028&lt;"
SPIKE_STEP, NAN_STEP = 700, 750
SPIKE = 77.25
REASONS: dict[VerdictWord, str] = {
    "promote": "",
    "unstable": "rise",
    "hold": "criterion-failed",
    "invalid": "different-setting",
    "inconclusive": "too-short",
    "error": "exception",
}


def an_outcome(item_id: str = "a.smoke.yaml::constant", verdict: VerdictWord = "promote", **facts: Any) -> Outcome:
    """Return an outcome with one finding."""
    finding = Finding(
        id="loss-trend",
        status="pass" if verdict == "promote" else "fail",
        reason=REASONS[verdict],
        text="the loss did not rise",
    )
    return Outcome(
        id=item_id,
        recipe=item_id.partition("::")[0],
        mode="constant",
        cell=None,
        verdict=verdict,
        reason=finding.reason,
        step=None,
        text=finding.text,
        decided_by=finding.id,
        findings=(finding,),
        facts=Facts(**{"steps": 2, "planned_steps": 2, **facts}),
        curve={"step": [0, 1], "loss": [2.5, 1.5]},
    )


def a_trace(steps: int = 1000, *, seed: int = 0, term: str = "ce") -> str:
    """Return a trace with a spike of one step and one NaN."""
    draw = random.Random(seed)
    lines = [f'step,loss,lr,grad_norm,probe_loss,"loss/{term.replace(chr(34), chr(34) * 2)}",loss/kl']
    for step in range(steps):
        loss = 2 * math.exp(-step / 300) + 0.5 + draw.gauss(0, 0.05)
        loss = SPIKE if step == SPIKE_STEP else math.nan if step == NAN_STEP else loss
        rate = 1e-3 * min(1.0, step / 100)
        probe = loss if step % 25 == 0 and step != NAN_STEP and step != SPIKE_STEP else ""
        lines.append(f"{step},{loss},{rate},{draw.lognormvariate(0, 0.5)},{probe},{loss - 0.1},{0.1}")
    return "\n".join(lines) + "\n"


def traced(outcome: Outcome, folder: Path, text: str) -> Outcome:
    """Write a trace of the outcome into its report folder, and return the outcome that names it."""
    name = f"traces/{sha256(outcome.id.encode()).hexdigest()[:8]}.csv"
    (folder / "traces").mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    steps = text.count("\n") - 1
    losses = [float(line.split(",")[1]) for line in text.splitlines()[1:]]
    known = {"trace": name, "trace_sha256": sha256(text.encode()).hexdigest(), "steps": steps, "planned_steps": steps}
    curve = {"step": list(range(0, steps, 10)), "loss": losses[::10]}
    return replace(outcome, facts=replace(outcome.facts, **known), curve=curve)


def every_verdict(folder: Path) -> list[Outcome]:
    """Return an outcome with each verdict: one of them with all that a page can show, and hostile in every text."""
    plain = [an_outcome(f"recipes/{word}.smoke.yaml::constant", word) for word in REASONS if word != "unstable"]
    promoted = traced(plain[0], folder, a_trace(seed=1))
    return [promoted, *plain[1:], hostile(folder)]


def hostile(folder: Path) -> Outcome:
    """Return an unstable outcome that uses every part of a page, with markup in every text."""
    spans = {"low_span": [400, 500, 0.9], "high_span": [600, 690, 1.8]}
    criterion = Finding(
        id=f"accept[max(`f1{HOSTILE.replace('`', '')}`) > 0.6]",
        status="fail",
        reason="criterion-failed",
        text=HOSTILE,
        observed=0.4,
        bound=0.6,
    )
    findings = (
        Finding(id="loss-trend", status="fail", reason="rise", text=HOSTILE, step=690, hint=HOSTILE, data=spans),
        criterion,
        Finding(id="grad-ratio", status="warn", text=HOSTILE, bound={f"{HOSTILE.replace('/', '')}/kl": [0.1, 8]}),
        Finding(id=HOSTILE, status="not-checked", text=HOSTILE, key=HOSTILE, place=HOSTILE),
        Finding(id="finite", status="pass", text=HOSTILE, observed={HOSTILE: HOSTILE}, bound=[HOSTILE, None]),
    )
    stage = StageFacts(name=HOSTILE, first_step=0, steps=1000, planned_steps=1000, evidence_steps=900, full_steps=9000)
    outcome = an_outcome(
        f"recipes/{HOSTILE}.smoke.yaml::constant",
        "unstable",
        learning_rate=1e-3,
        resumed_at_steps=(300,),
        stages=(stage,),
        recipe_text=f"task: x\n# {HOSTILE}\n",
        settings={HOSTILE: HOSTILE, "grad_clip_norm": 1.0},
        args={HOSTILE: [HOSTILE]},
        versions={HOSTILE: HOSTILE},
        device=HOSTILE,
        git_commit=HOSTILE,
        command=(HOSTILE,),
        task=HOSTILE,
        seconds=12.5,
    )
    term = HOSTILE.replace("/", "")
    gradients = {term: [[step, 1.0 + step / 1000, 2.0] for step in range(0, 1000, 100)]}
    gradients["kl"] = [[step, 0.5, 0.5] for step in range(0, 1000, 100)]
    outcome = replace(
        outcome,
        findings=findings,
        step=690,
        text=HOSTILE,
        output=HOSTILE,
        metrics={f"f1{HOSTILE.replace('`', '')}": [[step, step / 2500] for step in range(100, 1001, 100)]},
        gradients=gradients,
    )
    return traced(outcome, folder, a_trace(term=term.replace("\u2028", "")))
