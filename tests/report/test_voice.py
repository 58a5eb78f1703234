"""What a user reads in a terminal, compared with `snapshots/*.txt` at widths 80 and 100.

Run with `SNAPSHOT_UPDATE=1` to rewrite the files after a change of words or layout, and review their diff.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pytest_smoke.bisect.result import BisectResult, BisectTrial
from pytest_smoke.outcome import Facts, Finding, Outcome, StageFacts
from pytest_smoke.report.ablations import ablation_tables
from pytest_smoke.report.acceptance import acceptance_table
from pytest_smoke.report.bisect import bisect_summary
from pytest_smoke.report.full_run_estimate import full_run_lines
from pytest_smoke.report.terminal import failure, headline, verdict_table, warnings
from tests.snapshots import assert_snapshot

SNAPSHOTS = Path(__file__).parent / "snapshots"

PASSED = (
    Finding(
        id="batch-geometry",
        status="pass",
        text="effective batch 64 (16 x 4 x 1), the same as the full run's (16 x 4 x 1)",
    ),
    Finding(
        id="schedule",
        status="pass",
        text="constant mode: 20 warmup steps, peak learning rate 5, 780 of 800 steps at 80 % of the peak or more",
    ),
    Finding(id="settings", status="pass", text="all other settings are those of the full run"),
    Finding(
        id="finite",
        status="pass",
        text="loss terms, gradient norms and parameters were finite in all 800 steps",
    ),
)
FINITE_ONLY = PASSED[:3]
NOT_REACHED = tuple(
    Finding(id=id, status="not-checked", reason="ended-early", text="not checked: the run did not reach its end")
    for id in ("updates", "accept[val_f1 > 0.6]")
)
FALLING = [round(0.4 + 2 * math.exp(-step / 40), 4) for step in range(240)]
RISING = [*FALLING[:120], *(round(0.5 + 0.02 * step, 4) for step in range(40))]
FACTS = Facts(
    planned_steps=800,
    steps=800,
    full_steps=20_000,
    evidence_steps=780,
    loss_first=2.1,
    loss_last=0.4123,
    smallest_rise=0.031,
    smallest_rise_share=0.021,
    seconds=12.4,
    samples_per_second=4_130.0,
    estimated_full_seconds=312.0,
    full_accept=("val_f1 > 0.9", "gradient health: max(grad_norm) < 50"),
    main_metric="val_f1",
    main_metric_better="higher",
)


def outcome(
    name: str, verdict: str, *findings: Finding, reason: str = "", facts: Facts = FACTS, **rest: object
) -> Outcome:
    """An outcome that the last of `findings` decided."""
    return Outcome(
        id=f"recipes/tagger/{name}.smoke.yaml::constant",
        recipe=f"recipes/tagger/{name}.smoke.yaml",
        mode="constant",
        verdict=verdict,  # type: ignore[arg-type]  # a VerdictWord
        reason=reason or findings[-1].reason,
        text=findings[-1].text,
        decided_by=findings[-1].id,
        findings=findings,
        facts=facts,
        **{"cell": None, "step": findings[-1].step, **rest},  # type: ignore[arg-type]  # checked by the dataclass
    )


def stopped(steps: int) -> Facts:
    """Facts of a run that ended after `steps` steps."""
    return Facts(planned_steps=800, steps=steps, evidence_steps=steps - 20, loss_first=2.1, loss_last=0.9, seconds=6.1)


PROMOTED = outcome(
    "joint",
    "promote",
    *PASSED,
    Finding(
        id="peak-regression[val_f1]",
        status="warn",
        reason="regressed",
        text="val_f1 fell from 74.95 % (step 400) to 65.50 % (step 800), more than noise explains (p < 0.0001, 2,000 "
        "items, 15 earlier evaluations)",
        hint="the full run's learning rate decay, or early stopping, may keep the peak",
    ),
    Finding(
        id="accept[max(grad_norm) < 50]",
        status="pass",
        text="max(grad_norm) was 8.21, the recipe requires < 50",
        observed=8.21,
        bound=50,
        data={"name": "gradient health"},
    ),
    Finding(id="loss-trend", status="pass", text="no rise in 800 points: loss fell from 2.1 to 0.4123"),
    metrics={"val_f1": [(100 * k, 0.5 + 0.02 * k) for k in range(1, 9)]},
)
UNSTABLE = outcome(
    "wild",
    "unstable",
    *FINITE_ONLY,
    Finding(
        id="grad-ratio",
        status="warn",
        reason="dominant-term",
        text="largest median ratio of weighted gradient norms: crf/ce 31.4 (no bounds declared)",
        hint="the gradient of crf is 31.4x that of ce: crf dominates. Reduce its weight, or drop one of the two terms. "
        "Declare checks.grad_ratio to make this fail",
    ),
    *NOT_REACHED,
    Finding(
        id="loss-trend",
        status="fail",
        reason="rise",
        step=472,
        text="loss rose from its lowest level, 0.4996 (steps 345-360), to 1.28 (steps 457-472): +0.78 (+156 %), 23.1 "
        "standard deviations of the noise",
        hint="reduce learning_rate (5), or undo the last change to the recipe",
    ),
    facts=stopped(480),
    curve={"loss": RISING},
)
HOLD = outcome(
    "weak",
    "hold",
    *PASSED,
    Finding(id="loss-trend", status="pass", text="no rise in 800 points: loss fell from 2.1 to 0.4123"),
    Finding(
        id="accept[val_f1 > 0.6]",
        status="fail",
        reason="criterion-failed",
        text="val_f1 was 0.41 at step 800, the recipe requires > 0.6",
        hint="train longer (smoke.max_steps), or lower the criterion if 0.41 is enough to launch the full run",
    ),
    curve={"loss": FALLING},
)
INVALID = outcome(
    "unfair",
    "invalid",
    Finding(
        id="batch-geometry",
        status="fail",
        reason="different-effective-batch",
        text="the smoke run has effective batch 64 (64 x 1 x 1), the full run 1024 (64 x 16 x 1). The smoke run's "
        "gradient noise is 4.0x larger, so it says nothing about the full run",
        hint="change `smoke` so that batch_size x grad_accum_steps x world_size is 1024, or remove these keys to "
        "inherit them",
    ),
    facts=Facts(planned_steps=800, full_steps=20_000, evidence_steps=780),
)
INCONCLUSIVE = outcome(
    "short",
    "inconclusive",
    *PASSED,
    Finding(
        id="loss-trend",
        status="not-checked",
        reason="too-short",
        text="60 points, at least 120 needed to tell a rise from noise",
        hint="set smoke.max_steps to 120 or more",
    ),
    facts=Facts(planned_steps=60, steps=60, evidence_steps=40, loss_first=2.1, loss_last=1.7, seconds=1.2),
    curve={"loss": FALLING[:60]},
)
ERROR = outcome(
    "breaks",
    "error",
    *PASSED[:3],
    Finding(
        id="run",
        status="fail",
        reason="exception",
        step=4,
        text="RuntimeError: the labels file is empty at tasks.py:31 (after step 3)",
        data={"place": "tasks.py:31"},
    ),
    facts=Facts(planned_steps=800, steps=4, evidence_steps=0, loss_first=2.1, loss_last=2.0, seconds=0.7),
    curve={"loss": FALLING[:4]},
    output="Traceback (most recent call last):\n"
    '  File "tasks.py", line 31, in losses\n'
    "RuntimeError: the labels file is empty",
)
WIRING = outcome(
    "deep",
    "inconclusive",
    Finding(
        id="loss-trend",
        status="not-checked",
        reason="wiring",
        text="10 steps ran. A wiring run is too short for a verdict on the loss",
    ),
    facts=Facts(planned_steps=10, steps=10, loss_first=2.1, loss_last=2.0, seconds=0.9),
)
STAGED = outcome(
    "staged",
    "hold",
    Finding(
        id="stage[A]",
        status="fail",
        reason="stage-criteria-failed",
        text="stage A failed its criterion: val_f1 was 0.41 at step 399, the recipe requires > 0.6. Stage B did not "
        "start",
    ),
    facts=Facts(
        planned_steps=800,
        steps=400,
        evidence_steps=390,
        seconds=6.0,
        stages=(
            StageFacts(
                name="A",
                first_step=0,
                steps=400,
                planned_steps=400,
                evidence_steps=390,
                full_steps=10_000,
                loss_verdict="promote",
                criteria="fail",
                loss_first=2.1,
                loss_last=0.7,
                train_seconds=5.2,
            ),
            StageFacts(name="B", first_step=400, steps=0, planned_steps=400, evidence_steps=0, full_steps=10_000),
        ),
    ),
)
CELL = outcome(
    "joint",
    "unstable",
    Finding(id="finite", status="fail", reason="non-finite", step=214, text="loss is NaN at step 214"),
    facts=Facts(steps=215, planned_steps=800, loss_last=math.nan, cell_changes={"full.grad_clip_norm": None}),
    cell="unclipped",
)
BISECT = BisectResult(
    good="calm.smoke.yaml",
    bad="wild.smoke.yaml",
    differences=("full.learning_rate: 0.1 -> 5", "full.warmup_steps: 20 -> 40", "args.momentum: 0 -> 0.99"),
    unseen=("full.max_steps",),
    tried=tuple(
        BisectTrial(
            settings=settings,
            verdict=verdict,
            reason=reason,
            step=step,
            text="",
            answer="pass",
            smoke="",
            kept=False,
        )
        for settings, verdict, reason, step in (
            (("full.learning_rate", "full.warmup_steps", "args.momentum"), "unstable", "rise", 214),
            ((), "promote", "", None),
            (("full.learning_rate", "args.momentum"), "unstable", "rise", 231),
        )
    ),
    minimal=("full.learning_rate", "args.momentum"),
    text="found: full.learning_rate: 0.1 -> 5 and args.momentum: 0 -> 0.99 together make calm.smoke.yaml unstable; "
    "both are needed",
)
FAILURES = {
    "unstable": UNSTABLE,
    "hold": HOLD,
    "invalid": INVALID,
    "inconclusive": INCONCLUSIVE,
    "error": ERROR,
}
ALL = (PROMOTED, *FAILURES.values(), WIRING, STAGED)


def check(name: str, text: str) -> None:
    """Compare `text` with the snapshot `name`."""
    assert_snapshot(SNAPSHOTS / f"{name}.txt", text + "\n")


def fits(text: str, width: int) -> bool:
    """Whether no line is longer than `width`."""
    return all(len(line) <= width for line in text.splitlines())


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", FAILURES)
def test_failure_text(name: str, width: int) -> None:
    failed = FAILURES[name]
    text = failure(failed, place=f"{failed.recipe}:12", rerun=f"pytest --smoke {failed.id}", width=width)
    assert fits(text, width)
    check(f"failure-{name}-{width}", text)


def test_verbose_failure_text_lists_every_check() -> None:
    text = failure(UNSTABLE, place="recipe:12", rerun="pytest --smoke", width=100, verbose=True)
    check("failure-unstable-verbose-100", text)


@pytest.mark.parametrize("width", [80, 100])
def test_closing_section(width: int) -> None:
    """The parts in the order in which the plugin prints them, with those of `-v`."""
    parts = [
        [line for line, _ in verdict_table(ALL, width=width)],
        warnings(ALL, width=width),
        full_run_lines(ALL, width=width),
        acceptance_table(PROMOTED, width=width),
        *([line for line, _ in table] for table in ablation_tables([PROMOTED, CELL], width=width)),
    ]
    text = "\n\n".join("\n".join(lines) for lines in parts)
    assert fits(text, width)
    check(f"closing-section-{width}", text)


@pytest.mark.parametrize("width", [80, 100])
def test_bisect_section(width: int) -> None:
    text = "\n".join(line for line, _ in bisect_summary(BISECT, width=width))
    assert fits(text, width)
    check(f"bisect-{width}", text)


def test_a_wiring_run_is_ok_in_its_headline() -> None:
    assert headline(WIRING) == "wiring ok: 10 steps ran. A wiring run is too short for a verdict on the loss"
