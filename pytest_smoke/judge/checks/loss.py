"""The checks `finite` and `loss-trend`: the loss stays finite, and never rises."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pytest_smoke.events import Gradients, LossDiagnosis
from pytest_smoke.judge.checks.check import NOT_MADE, Check, Reason, always
from pytest_smoke.judge.checks.grad_ratio import describe_postmortem, is_term_to_blame
from pytest_smoke.judge.checks.loss_source import describe_source
from pytest_smoke.judge.curve.curve_verdict import CurveVerdict
from pytest_smoke.outcome import Finding, Status
from pytest_smoke.recipe.stages import Stage
from pytest_smoke.text import count, every, number

STATUS: dict[str, Status] = {
    "promote": "pass",
    "unstable": "fail",
    "invalid": "fail",
    "inconclusive": "not-checked",
    "hold": "fail",
}


def loss_findings(
    stage: Stage,
    curve: CurveVerdict,
    *,
    steps: int,
    noun: str = "step",
    steps_per_point: int = 1,
    parameter_norm: float,
    postmortem: Gradients | None = None,
    diagnosis: LossDiagnosis | None = None,
    wiring: bool = False,
) -> Iterator[Finding]:
    """Yield the findings of both checks for one stage of `steps` steps, which messages call `noun`.

    `steps_per_point`: optimizer steps from one point of the curve to the next.
    `parameter_norm`: 2-norm of all parameters after the last step. `postmortem`: the gradient probe on the last good
    checkpoint. `diagnosis`: where a loss that is not finite comes from. `wiring`: whether this is a wiring run, which
    is no verdict on the loss.
    """
    finite, trend = stage.finding_id(FINITE.id), stage.finding_id(LOSS_TREND.id)
    phase = stage.phase_at(curve.step) if curve.step is not None else ""
    text = _located(stage, curve.text, phase)
    hint = _hint(stage, curve, postmortem, diagnosis, steps_per_point)
    key = stage.key or "full.learning_rate"
    if curve.reason == "non-finite" and not _is_rate_to_blame(curve, diagnosis):
        key = "task"
    if curve.reason == "non-finite":
        yield Finding(
            id=finite,
            status="fail",
            reason="non-finite",
            text=text,
            step=curve.step,
            hint=hint,
            key=key,
            data=curve.data,
        )
        return
    if not math.isfinite(parameter_norm):
        last = stage.first_step + steps - 1
        broken = _located(stage, f"the norm of the parameters is {number(parameter_norm)} after step {last}")
        yield Finding(id=finite, status="fail", reason="non-finite", text=broken, step=last, hint=hint, key=key)
    elif steps:
        notes = "".join(f"; {note}" for note in curve.notes)
        what = "loss terms, gradient norms and parameters" if noun == "step" else "the logged losses and gradient norms"
        whole = f"{what} were finite in {every(steps, noun)}{notes}"
        yield Finding(id=finite, status="pass", text=whole)
    if wiring and curve.verdict != "unstable":
        done = _located(stage, f"{count(steps, 'step')} ran. A wiring run is too short for a verdict on the loss")
        yield Finding(id=trend, status="not-checked", reason="wiring", text=done)
        return
    warned = curve.verdict == "promote" and curve.reason
    yield Finding(
        id=trend,
        status="warn" if warned else STATUS[curve.verdict],
        reason=curve.reason,
        text=text,
        step=curve.step,
        hint=hint,
        key=key,
        data=curve.data,
    )


def preflight_only() -> Finding:
    """Return the finding of a session that asked for preflight alone."""
    text = "all preflight checks passed; --smoke-preflight does not train"
    return Finding(id=LOSS_TREND.id, status="not-checked", reason="preflight", text=text)


def _located(stage: Stage, text: str, phase: str = "") -> str:
    where = f"stage {stage.name}" + (f", phase {phase}" if phase else "")
    return f"{where}: {text}" if stage.name else text


def _is_rate_to_blame(curve: CurveVerdict, diagnosis: LossDiagnosis | None) -> bool:
    """Tell whether a value that is not finite may be due to the learning rate: not before any update."""
    if diagnosis is None:
        return curve.step != 0
    return diagnosis.kind not in ("input", "labels") and 0 not in (curve.step, diagnosis.step)


def _hint(
    stage: Stage,
    curve: CurveVerdict,
    postmortem: Gradients | None,
    diagnosis: LossDiagnosis | None = None,
    steps_per_point: int = 1,
) -> str:
    rate = f"learning_rate ({stage.full_learning_rate:g})"
    rate = f"the {rate} of stage {stage.name}" if stage.name else rate
    if curve.reason == "non-finite":
        source = describe_source(diagnosis) if diagnosis is not None else ""
        probe = describe_postmortem(postmortem) if postmortem else ""
        if not _is_rate_to_blame(curve, diagnosis):
            return source or probe or "no update was made yet: look at the loss terms, the labels and the inputs"
        return f"{source}. Otherwise reduce {rate}" if source else _reduce(rate, postmortem)
    if curve.verdict == "unstable":
        return _reduce(rate, postmortem)
    if curve.reason == "constant":
        return (
            "check that labels reach the loss, that gradients are on, and that the optimizer has the model's parameters"
        )
    if curve.reason == "no-progress" and not stage.first_step:  # a later stage starts from trained weights
        return f"try a lower {rate}, and check labels and loss: a model that learns nothing also has a stable loss"
    needed = curve.data.get("points_needed")
    if needed is None:
        return ""
    longer = _lengthen(stage, needed * steps_per_point) if needed * steps_per_point < stage.full_steps else ""
    if steps_per_point == 1:
        return longer
    return f"log the loss of every step, not of every {steps_per_point} steps" + (f"; or {longer}" if longer else "")


def _reduce(rate: str, postmortem: Gradients | None) -> str:
    """Blame a loss term whose gradient dominates or is not finite, else the learning rate or the newest change."""
    probe = describe_postmortem(postmortem) if postmortem else ""
    if postmortem and is_term_to_blame(postmortem):
        return f"{probe}. Otherwise reduce {rate}"
    return f"reduce {rate}, or undo the last change to the recipe" + (f"; {probe}" if probe else "")


def _lengthen(stage: Stage, steps: int) -> str:
    """Say how to make the stage, or a run without stages, `steps` long."""
    if stage.name:
        return f"set the steps of stage {stage.name} to {steps} or more"
    keys = ["smoke.max_steps"] if stage.max_steps < steps else []
    keys += ["smoke.run_steps"] if stage.steps < stage.max_steps else []
    return f"set {' and '.join(keys)} to {steps} or more" if keys else ""


FINITE = Check(
    id="finite",
    needed=always,
    question="Do the loss, its terms, the gradient norm and the parameters stay finite?",
    when="every step",
    verdict="unstable",
    key="full.learning_rate",
    stops_run=True,
    reasons=(
        Reason(id="non-finite", status="fail", when="a value became NaN or infinite, or shows that a NaN was hidden"),
    ),
)

LOSS_TREND = Check(
    id="loss-trend",
    needed=always,
    question="Does the loss trend down or sideways over the whole run, without a rise at any point?",
    when="every step",
    verdict="unstable",
    key="full.learning_rate",
    stops_run=True,
    reasons=(
        Reason(id="rise", status="fail", when="a lasting rise above the lowest earlier level, beyond the noise"),
        Reason(id="spike", status="fail", when="a streak of losses above all of the 50 before them"),
        Reason(id="divergence", status="fail", when="the level is far above that of the first steps, or of all before"),
        Reason(id="swings", status="fail", when="the loss rises by decades again and again"),
        Reason(
            id="constant",
            status="fail",
            when="the loss or the gradient norm is exactly 0, or the loss stopped changing in any digit",
            verdict="hold",
            certain=True,
            yields_to=("learning", "updates"),  # they know why
        ),
        Reason(
            id="learning-rate-zero",
            status="fail",
            when="the learning rate is 0 at every step",
            verdict="invalid",
        ),
        Reason(
            id="masked",
            status="fail",
            when="the learning rate left its peak before there was enough evidence",
            verdict="invalid",
        ),
        Reason(id="warming-up", status="not-checked", when="the learning rate was still rising at the end"),
        Reason(id="too-short", status="not-checked", when="there are too few points to tell a rise from noise"),
        Reason(id="too-noisy", status="not-checked", when="a lasting rise of 10 % could hide in the noise"),
        Reason(
            id="no-progress",
            status="warn",
            when="the loss did not improve on its initial level",
            yields_to=("learning", "updates"),
        ),
        Reason(
            id="no-progress",
            status="not-checked",
            when="the loss of a run that is trained from scratch did not improve on its initial level",
            yields_to=("learning", "updates"),
        ),
        Reason(id="wiring", status="not-checked", when="a wiring run is too short", yields_to=("pipeline", "overfit")),
        Reason(id="preflight", status="not-checked", when="`--smoke-preflight` does not train"),
        *NOT_MADE,
    ),
)
