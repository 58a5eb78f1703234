"""The `learning` check: in every window of a run there are gradients, and parameters move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isfinite
from typing import Any

from pytest_smoke import text
from pytest_smoke.events import LossDiagnosis, ProbeLoss, Step, Window
from pytest_smoke.judge.checks.check import NOT_MADE, Check, Reason, RunView, StageView, not_made
from pytest_smoke.judge.checks.loss_source import describe_source
from pytest_smoke.outcome import Finding
from pytest_smoke.text import count, every, listed, number

STILL_STEPS = 10
"""Steps in a row without a gradient or a change that count as dead, at least. Some optimizers update only every few
steps (gradient accumulation of their own, Lookahead), and a hinge loss is 0 for a few easy batches."""
MIN_STEPS = 2
"""Steps that a stage needs to be judged; all of them are then dead or none is."""
PROBES = 10
"""Scores of the probe batch needed to say that its loss never changes."""
HALF_BITS = 11
"""Significant bits of an fp16 number (bf16: 8). A loss with no more of them may be equal at many steps by rounding."""


def learning(run: RunView) -> Iterator[Finding]:
    """Make the check in every stage."""
    for view in run.stages:
        finding_id = view.stage.finding_id(CHECK.id)
        if not (view.finished and view.steps):
            yield not_made(run, finding_id)
            continue
        first, end = view.stage.first_step, view.stage.end
        windows = [window for window in run.events(Window) if first <= window.first_step < end]
        probes = [probe for probe in run.events(ProbeLoss) if first <= probe.step < end]
        diagnoses = [seen for seen in run.events(LossDiagnosis) if seen.stage == view.stage.name]
        yield stage_learning(view, windows, probes, diagnoses, finding_id=finding_id)


def stage_learning(
    view: StageView,
    windows: Sequence[Window],
    probes: Sequence[ProbeLoss],
    diagnoses: Sequence[LossDiagnosis] = (),
    *,
    finding_id: str = "learning",
) -> Finding:
    """Fail if a stage is dead, for its first cause: the optimizer, the gradient, the parameters, the loss."""
    steps = view.steps
    cause = (
        _not_in_optimizer(windows)
        or _replaced(windows)
        or _zero_gradient(steps, windows, diagnoses)
        or _zero_loss(steps, windows)
        or _still(steps, windows)
        or _constant_loss(steps, windows, whole=True)
        or _constant_probe(steps, windows, probes)
        or _constant_loss(steps, windows, whole=False)
    )
    if cause is not None:
        return cause.finding(finding_id, view.stage.name)
    passed = f"there were gradients and parameters changed in every part of the {count(len(steps), 'step')}"
    return Finding(id=finding_id, status="pass", text=passed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cause:
    reason: str
    text: str
    hint: str
    step: int | None = None
    warns: bool = False
    data: dict[str, Any] | None = None

    def finding(self, finding_id: str, stage: str) -> Finding:
        return Finding(
            id=finding_id,
            status="warn" if self.warns else "fail",
            reason=self.reason,
            text=f"stage {stage}: {self.text}" if stage else self.text,
            step=self.step,
            hint=self.hint,
            data=self.data or {},
        )


def _not_in_optimizer(windows: Sequence[Window]) -> _Cause | None:
    if not windows or any(window.held or window.moved for window in windows):
        return None
    amount = windows[0].trainable
    whose = (
        f"none of the model's {count(amount, 'trainable parameter')}" if amount != 1 else "not the model's parameter"
    )
    return _Cause(
        reason="not-in-optimizer",
        text=f"the optimizer holds {whose}: it was made for another model, or for a copy of this one",
        hint="make the optimizer from the parameters of the model that optimizer(model, learning_rate) is given",
    )


def _replaced(windows: Sequence[Window]) -> _Cause | None:
    window = next((window for window in windows if window.replaced), None)
    if window is None:
        return None
    names = window.replaced
    were = "was" if len(names) == 1 else "were"
    return _Cause(
        reason="parameter-replaced",
        text=(
            f"{count(len(names), 'parameter')} {were} replaced or added in "
            f"{text.steps(window.first_step, window.end_step - 1)}, and the optimizer does not hold the new "
            f"{'one' if len(names) == 1 else 'ones'}: {listed(names)}"
        ),
        step=window.first_step,
        hint="change the values of a parameter in place (`copy_`), or replace it before the optimizer is made",
        data={"replaced": list(names)},
    )


def _zero_gradient(
    steps: Sequence[Step], windows: Sequence[Window], diagnoses: Sequence[LossDiagnosis]
) -> _Cause | None:
    dead = _stretch(steps, lambda row: row.grad_norm == 0.0, _needed(steps, windows))
    if dead is None:
        return None
    first, last = dead
    rows = [row for row in steps if first <= row.step <= last]
    where = _where(first, last, steps)
    if all(row.loss == 0.0 for row in rows):
        source = next((seen for seen in diagnoses if seen.kind == "labels"), None)
        return _Cause(
            reason="zero-loss",
            text=f"the loss and its gradient are exactly 0 {where}: {source.detail if source else 'nothing trains'}",
            step=first,
            hint=describe_source(source)
            if source
            else "check labels and masks: a mean over no item, or labels that are all ignored, give a loss of 0",
        )
    disabled = any(window.without_grad and window.end_step > first for window in windows)
    why = (
        "the task disabled gradients and did not enable them again"
        if disabled
        else "the loss has no gradient with respect to any parameter"
    )
    return _Cause(
        reason="zero-gradient",
        text=f"the gradient is exactly 0 {where}: {why}",
        step=first,
        hint=(
            "undo `torch.set_grad_enabled(False)` in the task, or use `with torch.no_grad()`"
            if disabled
            else "look for `detach()` and `torch.no_grad()` in the loss or in the model, and for a loss times 0"
        ),
    )


def _zero_loss(steps: Sequence[Step], windows: Sequence[Window]) -> _Cause | None:
    dead = _stretch(steps, lambda row: row.loss == 0.0, _needed(steps, windows))
    if dead is None:
        return None
    return _Cause(
        reason="zero-loss",
        text=f"the loss is exactly 0 {_where(*dead, steps)}, so it shows nothing about training",
        step=dead[0],
        hint="check labels and masks, and return a loss whose value is not 0 by construction",
    )


def _still(steps: Sequence[Step], windows: Sequence[Window]) -> _Cause | None:
    """Find windows in a row in which no parameter changed although the optimizer had a rate and finite gradients."""
    by_step = {row.step: row for row in steps}

    def is_still(window: Window) -> bool:
        rows = [by_step[step] for step in range(window.first_step, window.end_step) if step in by_step]
        norms = [row.grad_norm for row in rows]
        trains = any(row.lr for row in rows) and all(norm is not None and isfinite(norm) for norm in norms)
        return bool(window.trainable) and not window.moved and trains

    needed = min(STILL_STEPS, len(steps))
    for still, group in groupby(windows, key=is_still):
        members = list(group)
        first, last = members[0].first_step, members[-1].end_step - 1
        if not still or last - first + 1 < needed or len(steps) < MIN_STEPS:
            continue
        called = sum(window.stepped for window in members)
        why = (
            "optimizer.step did not run"
            if not called
            else f"optimizer.step ran {'once' if called == 1 else f'{called:,} times'} and changed nothing"
        )
        return _Cause(
            reason="parameters-still",
            text=f"no parameter changed {_where(first, last, steps)}, although there was a gradient: {why}",
            step=first,
            hint="look for code that replaces or skips optimizer.step, or restores earlier weights",
        )
    return None


def _constant_probe(steps: Sequence[Step], windows: Sequence[Window], probes: Sequence[ProbeLoss]) -> _Cause | None:
    values = {probe.loss for probe in probes}
    if len(probes) < PROBES or len(values) != 1 or not any(row.lr for row in steps):
        return None
    if windows and not any(window.moved for window in windows):
        return None  # nothing was trained, which is another cause
    (value,) = values
    if _is_short(value):
        return None
    return _Cause(
        reason="constant-probe-loss",
        text=(
            f"the loss on the probe batch is exactly {number(value)} at all {len(probes):,} scores, although the "
            "parameters changed: in evaluation mode it does not depend on them"
        ),
        hint="check that adapters and heads are used in evaluation mode, too, and the labels of the probe batch",
    )


def _constant_loss(steps: Sequence[Step], windows: Sequence[Window], *, whole: bool) -> _Cause | None:
    """Find equal losses in all steps (`whole`) or in a row. In a row they only warn: the gradient may be sound."""
    needed = max(2 * STILL_STEPS, len(steps) if whole else _needed(steps, windows))
    for value, group in groupby(steps, key=lambda row: row.loss):
        rows = list(group)
        if len(rows) >= needed and not _is_short(value):
            where = _where(rows[0].step, rows[-1].step, steps)
            return _Cause(
                reason="constant-loss",
                warns=not whole,
                text=f"the loss is exactly {number(value)} {where}: it shows nothing about training",
                step=rows[0].step,
                hint="check that each batch has other samples, and that the loss is not clamped",
            )
    return None


def _needed(steps: Sequence[Step], windows: Sequence[Window]) -> int:
    """Return how many steps in a row are dead: those of a whole window, or all of a short stage."""
    window = max((window.end_step - window.first_step for window in windows), default=0)
    return max(MIN_STEPS, min(len(steps), max(STILL_STEPS, window)))


def _stretch(steps: Sequence[Step], is_dead: Callable[[Step], bool], needed: int) -> tuple[int, int] | None:
    """Return the first and the last step of the first `needed` or more dead steps in a row; None if there are none."""
    for dead, group in groupby(steps, key=is_dead):
        rows = list(group)
        if dead and len(rows) >= needed:
            return rows[0].step, rows[-1].step
    return None


def _where(first: int, last: int, steps: Sequence[Step]) -> str:
    if (first, last) == (steps[0].step, steps[-1].step):
        return f"in {every(len(steps), 'step')}"
    if last == steps[-1].step:
        return f"from step {first} to the end (step {last})"
    return f"in {text.steps(first, last)}"


def _is_short(value: float) -> bool:
    """Tell whether a value may have been rounded to 16 bits: it has at most `HALF_BITS` significant bits."""
    if not isfinite(value):
        return False
    numerator, _ = value.as_integer_ratio()
    odd = abs(numerator)
    while odd and odd % 2 == 0:
        odd //= 2
    return odd.bit_length() <= HALF_BITS


CHECK = Check(
    id="learning",
    question="Does the run train from its first step to its last: is there a gradient, and do parameters change?",
    when="end of a stage",
    verdict="hold",
    key="task",
    reasons=(
        Reason(
            id="not-in-optimizer",
            status="fail",
            when="the optimizer holds no trainable parameter of the model",
            certain=True,
        ),
        Reason(
            id="parameter-replaced",
            status="fail",
            when="a parameter was replaced or added, and the optimizer does not hold the new one",
            certain=True,
        ),
        Reason(id="zero-gradient", status="fail", when="the gradient is exactly 0 for a whole window", certain=True),
        Reason(id="zero-loss", status="fail", when="the loss is exactly 0 for a whole window", certain=True),
        Reason(id="parameters-still", status="fail", when="no parameter changes for a whole window", certain=True),
        Reason(
            id="constant-probe-loss",
            status="fail",
            when="the loss on the probe batch is the same at every score, in every digit",
            certain=True,
        ),
        Reason(
            id="constant-loss",
            status="fail",
            when="the loss is the same at all steps, in every digit",
            certain=True,
        ),
        Reason(id="constant-loss", status="warn", when="the loss is the same in every digit for a whole window"),
        *NOT_MADE,
    ),
    at_end=learning,
)
