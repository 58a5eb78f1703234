"""The `schedule` check: the learning rate does what the mode requires, for enough steps near its peak."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

from pytest_smoke import schedules
from pytest_smoke.judge.checks.check import Check, Reason, always, correction
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.modes import LONG_TAIL_MIN_STEPS, SCHEDULE_OF_MODE
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.text import count, percent

LONG_TAIL_EVIDENCE_STEPS = 2500
"""Steps at 80 % or more of the peak that a cosine of 10,000 steps has: 2,857 with a warmup of 1,000."""
LONG_TAIL_RUN_STEPS = 3000
"""Steps of such a cosine that contain them."""
CONSTANT_EVIDENCE_SHARE = 0.5
"""Share of a constant smoke run that must be evidence: a longer warmup leaves too little to see."""
STATUSES = ("fail", "warn", "pass")


def evidence_needed(mode: str, stage: Stage) -> int:
    """Return the steps at 80 % or more of the full run's peak learning rate that a promotion needs."""
    return LONG_TAIL_EVIDENCE_STEPS if mode == "long-tail" else math.ceil(CONSTANT_EVIDENCE_SHARE * stage.steps)


def evidence_steps(mode: str, stage: Stage) -> int:
    """Return the planned steps of the stage that are evidence; 0 under a schedule that the mode does not allow."""
    if stage.lr_schedule != SCHEDULE_OF_MODE[mode] or _warmup_fault(stage):  # type: ignore[index]  # a Mode
        return 0
    peak_ratio = stage.learning_rate / stage.full_learning_rate
    return _evidence_steps(stage.lr_schedule, stage.warmup_steps, stage.max_steps, stage.steps, peak_ratio)


@lru_cache(maxsize=256)  # asked for three times per stage
def _evidence_steps(lr_schedule: str, warmup_steps: int, max_steps: int, steps: int, peak_ratio: float) -> int:
    curve = schedules.named(lr_schedule, warmup_steps, max_steps)
    return schedules.evidence_steps(curve, steps, peak_ratio=peak_ratio)


def schedule(case: Case) -> Iterator[Finding]:
    """Check learning rate, warmup and shape of the schedule, and count the evidence, in every stage."""
    findings = [(stage, _schedule(case, stage)) for stage in case.stages]
    if not case.recipe.stages:
        yield findings[0][1]
        return
    worst_stage, worst = min(findings, key=lambda pair: STATUSES.index(pair[1].status))
    yield Finding(
        id=CHECK.id,
        status=worst.status,
        reason=worst.reason,
        text="; ".join(f"stage {stage.name}: {one.text}" for stage, one in findings if one.status == worst.status),
        hint=worst.hint,
        key=worst_stage.key,
        data={"stages": {stage.name: one.data for stage, one in findings}},
    )


def _schedule(case: Case, stage: Stage) -> Finding:
    faults = list(schedule_faults(case, stage))
    evidence, needed = evidence_steps(case.mode, stage), evidence_needed(case.mode, stage)
    data = {"evidence_steps": evidence, "evidence_needed": needed}
    key = case.key("smoke.lr_schedule", "smoke.learning_rate", "smoke.warmup_steps", "smoke.max_steps", "smoke")
    if faults:
        text = "; ".join(text for _, text, _ in faults)
        hint = next((hint for _, _, hint in faults if hint), "")
        return Finding(id=CHECK.id, status="fail", reason=faults[0][0], text=text, hint=hint, key=key, data=data)
    text = (
        f"{case.mode} mode: {count(stage.warmup_steps, 'warmup step')}, peak learning rate {stage.learning_rate:g}, "
        f"{evidence:,} of {count(stage.steps, 'step')} at 80 % of the peak or more"
    )
    if case.mode == "long-tail" and stage.max_steps < LONG_TAIL_MIN_STEPS:
        return Finding(
            id=CHECK.id,
            status="warn",
            reason="short-horizon",
            text=(
                f"{text}. The schedule has {count(stage.max_steps, 'step')}, fewer than {LONG_TAIL_MIN_STEPS:,}, "
                "so its cosine decays within the run"
            ),
            hint="" if stage.name else f"set smoke.max_steps to {LONG_TAIL_MIN_STEPS} or more",
            key=key,
            data=data,
        )
    if stage.steps >= stage.full_steps:
        text = f"{text}. The full run has only {count(stage.full_steps, 'step')}, so the smoke run saves nothing"
        return Finding(id=CHECK.id, status="warn", reason="not-shorter", text=text, key=key, data=data)
    return Finding(id=CHECK.id, status="pass", text=text, observed=evidence, bound=needed, data=data)


def schedule_faults(case: Case, stage: Stage) -> Iterator[tuple[str, str, str]]:
    """Yield reason, sentence and hint of each fault of a stage's schedule, the most important first."""
    if fault := _warmup_fault(stage):
        run = f"stage {stage.name}" if stage.name else "the smoke run"
        yield "warmup-too-long", fault, f"give {run} more steps than the full run's warmup has"
        return
    required = SCHEDULE_OF_MODE[case.mode]
    if stage.lr_schedule != required:
        yield (
            "masked",
            f"lr_schedule is {stage.lr_schedule!r}, {case.mode} mode requires {required!r}{_decay(stage)}",
            f"{_unmask(case, required)}, or rerun with --smoke-mode {case.mode}, which overrides it",
        )
    for key, reason, ours, theirs in (
        ("learning_rate", "different-learning-rate", stage.learning_rate, stage.full_learning_rate),
        ("warmup_steps", "different-warmup", stage.warmup_steps, stage.full_warmup_steps),
    ):
        if ours != theirs:
            text = f"{key} is {_number(ours)} in the smoke run and {_number(theirs)} in the full run"
            yield reason, text, correction(case, [key])
    if case.mode == "wiring" or stage.lr_schedule != required:
        return
    evidence, needed = evidence_steps(case.mode, stage), evidence_needed(case.mode, stage)
    if evidence < needed:
        yield (
            "too-little-evidence",
            f"{evidence:,} of {count(stage.steps, 'step')} are at 80 % of the full run's peak learning rate or more; "
            f"{case.mode} mode needs {needed:,}",
            _enough(case, stage),
        )


def _unmask(case: Case, required: str) -> str:
    file = case.read_from("smoke", "lr_schedule")
    return f"choose a {required} schedule in {file}" if file else "remove lr_schedule from `smoke`"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _warmup_fault(stage: Stage) -> str:
    if stage.lr_schedule == "constant" or stage.warmup_steps < stage.max_steps:
        return ""
    warmup, horizon = count(stage.warmup_steps, "step"), count(stage.max_steps, "step")
    return f"the warmup of {warmup} does not end within the {horizon} of the schedule"


def _decay(stage: Stage) -> str:
    """Say in numbers what the wrong schedule hides, if it has a formula."""
    if stage.lr_schedule not in ("cosine", "linear"):
        return ""
    curve = schedules.named(stage.lr_schedule, stage.warmup_steps, stage.max_steps)
    at = (3 * stage.steps) // 4
    last = schedules.last_evidence_step(curve, stage.steps)
    evidence = f"no step after {last}" if last is not None else "no step"
    return (
        f". At step {at} the learning rate is {percent(curve(at))} of its peak, and {evidence} is at 80 % or more: "
        "a divergence would not show"
    )


def _enough(case: Case, stage: Stage) -> str:
    if case.mode == "long-tail":
        return (
            f"set smoke.max_steps to {LONG_TAIL_MIN_STEPS} or more, and smoke.run_steps, if it is set, to "
            f"{LONG_TAIL_RUN_STEPS} or more"
        )
    rising = math.ceil(schedules.EVIDENCE_SHARE * stage.warmup_steps)
    length = f"the steps of stage {stage.name}" if stage.name else "smoke.max_steps"
    return f"set {length} to {math.ceil(rising / CONSTANT_EVIDENCE_SHARE)} or more"


CHECK = Check(
    id="schedule",
    needed=always,
    question="Does the learning rate stay near the full run's peak for long enough to be evidence?",
    when="preflight",
    verdict="invalid",
    key="smoke",
    reasons=(
        Reason(id="warmup-too-long", status="fail", when="the warmup is longer than the schedule"),
        Reason(id="masked", status="fail", when="the schedule lets the learning rate decay, which masks a divergence"),
        Reason(id="different-learning-rate", status="fail", when="the peak learning rate is not the full run's"),
        Reason(id="different-warmup", status="fail", when="the warmup is not the full run's"),
        Reason(id="too-little-evidence", status="fail", when="too few steps are near the peak learning rate"),
        Reason(id="short-horizon", status="warn", when="a long-tail cosine is so short that it decays within the run"),
        Reason(id="not-shorter", status="warn", when="the full run is no longer than the smoke run"),
    ),
    before_run=schedule,
)
