"""Is the smoke a fair rehearsal? Decided from the recipe alone, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pytest_smoke import schedules
from pytest_smoke.judge.checks.mix import audit_mix
from pytest_smoke.outcome import Finding
from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Settings
from pytest_smoke.recipe.modes import LONG_TAIL_MIN_STEPS, SCHEDULE_OF_MODE
from pytest_smoke.recipe.windows import windows_of

LONG_TAIL_EVIDENCE_STEPS = 2500
"""What a cosine of 10,000 steps spends at 80 % or more of its peak (2,857 of them with 1,000 of warm-up)."""
CONSTANT_EVIDENCE_SHARE = 0.5
"""Share of a constant smoke's window that must be evidence: a warm-up that eats more leaves too little to see."""

ABSENT = object()


def preflight(case: Case) -> list[Finding]:
    """Every finding that needs no run. One that fails makes the verdict `invalid`."""
    findings = [batch_geometry(case), schedule(case), rehearsal(case)]
    if case.recipe.mix is not None:
        findings.append(audit_mix(case.recipe.mix))
    return findings


def evidence_needed(case: Case) -> int:
    """Steps at 80 % or more of the full run's peak learning rate that a promotion rests on."""
    if case.mode == "long-tail":
        return LONG_TAIL_EVIDENCE_STEPS
    return math.ceil(CONSTANT_EVIDENCE_SHARE * case.run_steps)


def evidence_steps(case: Case) -> int:
    """Steps of the smoke that are evidence; 0 under a schedule its mode does not promise."""
    settings = case.settings
    if settings.lr_schedule != SCHEDULE_OF_MODE[case.mode] or _horizon_fault(settings):
        return 0
    curve = schedules.named(settings.lr_schedule, settings.warmup_steps, settings.max_steps)
    ratio = settings.learning_rate / case.full.learning_rate
    return schedules.evidence_steps(curve, case.run_steps, peak_ratio=ratio)


def batch_geometry(case: Case) -> Finding:
    """Gradient noise goes with one over the root of the effective batch, so the smoke's must be the full run's."""
    smoke, full = case.settings, case.full
    ours, theirs = smoke.effective_batch, full.effective_batch
    if ours == theirs:
        return Finding(
            id="batch-geometry",
            status="pass",
            text=f"effective batch {ours} ({_geometry(smoke)}) is the full run's ({_geometry(full)})",
            observed=ours,
            bound=theirs,
        )
    ratio = math.sqrt(theirs / ours)
    noise = f"{ratio:.1f}x larger" if ratio > 1 else f"{1 / ratio:.1f}x smaller"
    return Finding(
        id="batch-geometry",
        status="fail",
        reason="effective-batch",
        text=f"effective batch {ours} ({_geometry(smoke)}) is not the full run's {theirs} ({_geometry(full)}): "
        f"the smoke's gradient noise is {noise}, so it cannot see what the full run will",
        observed=ours,
        bound=theirs,
        hint=f"make batch_size x grad_accum_steps x world_size {theirs} under smoke:, or drop them to inherit",
    )


def schedule(case: Case) -> Finding:
    """Learning rate, warm-up and shape are what the mode promises, and enough steps are at the peak, in each stage."""
    if not case.recipe.stages:
        return _schedule(case)
    found = [(window.name, _schedule(window.case)) for window in windows_of(case)]
    _, worst = min(found, key=lambda pair: ("fail", "warn", "pass").index(pair[1].status))
    return Finding(
        id="schedule",
        status=worst.status,
        reason=worst.reason,
        text="; ".join(f"stage {name}: {one.text}" for name, one in found if one.status == worst.status),
        hint=next((f"stage {name}: {one.hint}" for name, one in found if one is worst and one.hint), ""),
        data={"stages": {name: one.data for name, one in found}},
    )


def _schedule(case: Case) -> Finding:
    faults = list(_schedule_faults(case))
    evidence, needed = evidence_steps(case), evidence_needed(case)
    data = {"evidence_steps": evidence, "evidence_needed": needed}
    if faults:
        text = "; ".join(text for _, text, _ in faults)
        hint = next((hint for _, _, hint in faults if hint), "")
        return Finding(id="schedule", status="fail", reason=faults[0][0], text=text, hint=hint, data=data)
    settings = case.settings
    text = (
        f"mode {case.mode}: warm-up {settings.warmup_steps} steps, peak {settings.learning_rate:g}, "
        f"{evidence} of {case.run_steps} steps at 80 % or more of it"
    )
    if case.mode == "long-tail" and settings.max_steps < LONG_TAIL_MIN_STEPS:
        return Finding(
            id="schedule",
            status="warn",
            reason="short-horizon",
            text=f"{text}; max_steps {settings.max_steps} is under the {LONG_TAIL_MIN_STEPS} that keep a cosine's tail "
            "out of the window",
            data=data,
        )
    if case.run_steps >= case.full.max_steps:
        text = f"{text}; the full run is no longer ({case.full.max_steps} steps), so the smoke saves nothing"
        return Finding(id="schedule", status="warn", reason="no-shorter", text=text, data=data)
    return Finding(id="schedule", status="pass", text=text, observed=evidence, bound=needed, data=data)


def _schedule_faults(case: Case) -> Iterator[tuple[str, str, str]]:
    """(reason, sentence, hint) of each fault; the order is the order of importance."""
    smoke, full = case.settings, case.full
    if fault := _horizon_fault(smoke):
        yield "warm-up", fault, "let the smoke run longer than the full run's warm-up"
        return
    promised = SCHEDULE_OF_MODE[case.mode]
    if smoke.lr_schedule != promised:
        yield (
            "masked",
            f"lr_schedule {smoke.lr_schedule!r} is not what mode {case.mode} promises ({promised}){_decay(case)}",
            f"drop lr_schedule from smoke:, or run it again with --smoke-mode {case.mode}, which overrides it",
        )
    for key, reason in (("learning_rate", "learning-rate"), ("warmup_steps", "warm-up")):
        ours, theirs = getattr(smoke, key), getattr(full, key)
        if ours != theirs:
            yield reason, f"{key} is {ours:g} in the smoke and {theirs:g} in the full run", f"drop {key} from smoke:"
    if case.mode == "wiring" or smoke.lr_schedule != promised:
        return
    evidence, needed = evidence_steps(case), evidence_needed(case)
    if evidence < needed:
        yield (
            "evidence",
            f"{evidence} of {case.run_steps} steps are at 80 % or more of the full run's peak learning rate; "
            f"mode {case.mode} needs {needed}",
            _enough(case),
        )


def _horizon_fault(settings: Settings) -> str:
    if settings.lr_schedule == "constant" or settings.warmup_steps < settings.max_steps:
        return ""
    return f"warm-up of {settings.warmup_steps} steps does not fit into the {settings.max_steps} steps of the schedule"


def _decay(case: Case) -> str:
    """What the wrong schedule hides, in numbers where it has a formula."""
    settings = case.settings
    if settings.lr_schedule not in ("cosine", "linear"):
        return ""
    curve = schedules.named(settings.lr_schedule, settings.warmup_steps, settings.max_steps)
    at = (3 * case.run_steps) // 4
    last = schedules.last_evidence_step(curve, case.run_steps)
    seen = f"no step after {last}" if last is not None else "no step"
    return (
        f": at step {at} its learning rate is {100 * curve(at):.0f} % of the peak and {seen} is at 80 % or more, "
        "so a divergence there would be masked"
    )


def _enough(case: Case) -> str:
    if case.mode == "long-tail":
        return f"long-tail needs max_steps of {LONG_TAIL_MIN_STEPS} or more, and run_steps of at least 3000 of them"
    rising = math.ceil(schedules.EVIDENCE_SHARE * case.settings.warmup_steps)
    length = "smoke.max_steps" if case.stage is None else "the stage's steps"
    return f"set {length} to {math.ceil(rising / CONSTANT_EVIDENCE_SHARE)} or more"


def rehearsal(case: Case) -> Finding:
    """Nothing else that shapes the dynamics differs from the full run."""
    differences = list(_differences(case))
    if not differences:
        return Finding(id="settings", status="pass", text="every other setting is the full run's")
    return Finding(
        id="settings",
        status="fail",
        reason="setting",
        text="; ".join(
            f"{key} is {_show(ours)} in the smoke and {_show(theirs)} in the full run"
            for key, ours, theirs in differences
        ),
        observed={key: None if ours is ABSENT else ours for key, ours, _ in differences},
        bound={key: None if theirs is ABSENT else theirs for key, _, theirs in differences},
        hint=f"drop {', '.join(key for key, _, _ in differences)} from smoke:, or change the full run",
    )


def _differences(case: Case) -> Iterator[tuple[str, Any, Any]]:
    recipe = case.recipe
    for key in ("precision", "grad_clip_norm", "from_scratch"):
        if key in case.declared and case.declared[key] != getattr(case.full, key):
            yield key, case.declared[key], getattr(case.full, key)
    for name, ours, theirs in (
        ("loss_weights", recipe.smoke.loss_weights, case.full.loss_weights),
        ("args", recipe.smoke.args, recipe.args),
    ):
        for key, value in ours.items():
            if key not in theirs or theirs[key] != value:
                yield f"{name}.{key}", value, theirs.get(key, ABSENT)


def _geometry(settings: Settings) -> str:
    return f"{settings.batch_size} x {settings.grad_accum_steps} x {settings.world_size}"


def _show(value: Any) -> str:
    if value is ABSENT:
        return "not set"
    return "off" if value is None else f"{value!r}"
