"""The `updates` check: parameters that should train change, and frozen ones do not."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_smoke.events import Updates
from pytest_smoke.judge.checks.check import NOT_MADE, Check, Reason, RunView, not_made
from pytest_smoke.outcome import Finding
from pytest_smoke.text import count, listed


def parameter_updates(run: RunView) -> Iterator[Finding]:
    """Make the check in every stage."""
    for view in run.stages:
        finding_id = view.stage.finding_id(CHECK.id)
        if view.finished and view.updates is not None:
            yield updates(view.updates, finding_id=finding_id)
        else:
            yield not_made(run, finding_id)


def updates(seen: Updates, *, finding_id: str = "updates") -> Finding:
    """Fail if a parameter that requires a gradient is bit for bit what it was, or a frozen one changed."""
    if not seen.unchanged and not seen.changed_frozen:
        text = (
            f"all {count(seen.checked, 'trainable parameter')} changed"
            if seen.checked != 1
            else "the parameter changed"
        )
        return Finding(id=finding_id, status="pass", text=text)
    if not seen.unchanged:
        return Finding(
            id=finding_id,
            status="fail",
            reason="frozen-parameter-changed",
            text=f"{count(len(seen.changed_frozen), 'frozen parameter')} changed: {listed(seen.changed_frozen)}",
            observed=list(seen.changed_frozen),
            bound=[],
            hint="the stage's `train` globs freeze these parameters; look for code that writes to them directly",
        )
    causes = []
    if seen.outside_optimizer:
        causes.append(f"{len(seen.outside_optimizer):,} not in the optimizer")
    if seen.without_gradient:
        causes.append(f"{len(seen.without_gradient):,} without a gradient")
    why = f" ({', '.join(causes)})" if causes else ""
    return Finding(
        id=finding_id,
        status="fail",
        reason="parameters-not-updated",
        text=(
            f"{len(seen.unchanged):,} of {count(seen.checked, 'trainable parameter')} did not change: "
            f"{listed(seen.unchanged)}{why}"
        ),
        observed=list(seen.unchanged),
        bound=[],
        hint=(
            "set requires_grad=False on parameters that are frozen on purpose; pass the others to the optimizer and "
            "use them in a loss term"
        ),
    )


CHECK = Check(
    id="updates",
    question="Do all trainable parameters change during the run, and do frozen ones stay as they are?",
    when="end of a stage",
    verdict="hold",
    key="task",
    reasons=(
        Reason(id="parameters-not-updated", status="fail", when="a trainable parameter did not change"),
        Reason(id="frozen-parameter-changed", status="fail", when="a frozen parameter changed"),
        *NOT_MADE,
    ),
    at_end=parameter_updates,
)
