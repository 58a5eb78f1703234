"""The `updates` check: parameters that should train change, and frozen ones do not."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from pytest_smoke.events import Updates
from pytest_smoke.judge.checks.check import NOT_MADE, Check, Reason, RunView, not_made
from pytest_smoke.outcome import Finding
from pytest_smoke.text import count, listed

STOPPED_SHARE = 0.5
"""Share of the trainable parameters that stop changing from which on training as a whole has stopped."""


def parameter_updates(run: RunView) -> Iterator[Finding]:
    """Make the check in every stage."""
    for view in run.stages:
        finding_id = view.stage.finding_id(CHECK.id)
        if view.finished and view.updates is not None:
            yield updates(view.updates, finding_id=finding_id)
        else:
            yield not_made(run, finding_id)


def updates(seen: Updates, *, finding_id: str = "updates") -> Finding:
    """Fail if trainable parameters are bit for bit what they were or stop changing, or if a frozen one changed.

    Warn if their updates are lost in rounding, or if only some of them stop: an expert may get no gradient any more.
    """
    unchanged = [name for name in seen.unchanged if name not in set(seen.rounded)]
    finding = partial(Finding, id=finding_id)
    if unchanged:
        return finding(
            status="fail",
            reason="parameters-not-updated",
            text=(
                f"{len(unchanged):,} of {count(seen.checked, 'trainable parameter')} did not change: "
                f"{listed(unchanged)}{_causes(seen)}"
            ),
            observed=unchanged,
            bound=[],
            hint=(
                "set requires_grad=False on parameters that are frozen on purpose; pass the others to the optimizer "
                "and use them in a loss term"
            ),
        )
    if seen.changed_frozen:
        return finding(
            status="fail",
            reason="frozen-parameter-changed",
            text=f"{count(len(seen.changed_frozen), 'frozen parameter')} changed: {listed(seen.changed_frozen)}",
            observed=list(seen.changed_frozen),
            bound=[],
            hint="the stage's `train` globs freeze these parameters; look for code that writes to them directly",
        )
    if seen.stopped:
        most = len(seen.stopped) >= STOPPED_SHARE * seen.checked
        return finding(
            status="fail" if most else "warn",
            reason="parameters-stopped",
            text=(
                f"{len(seen.stopped):,} of {count(seen.checked, 'trainable parameter')} stopped changing by step "
                f"{max(seen.stopped.values())}: {listed(seen.stopped)}"
            ),
            step=max(seen.stopped.values()),
            observed=list(seen.stopped),
            bound=[],
            hint=(
                "look for code that detaches or freezes a part of the model during training; freeze before the first "
                "step what is not meant to train"
            ),
        )
    if seen.rounded:
        return finding(
            status="warn",
            reason="lost-in-rounding",
            text=(
                f"{len(seen.rounded):,} of {count(seen.checked, 'trainable parameter')} did not change, because their "
                f"updates are smaller than the spacing of their values: {listed(seen.rounded)}"
            ),
            observed=list(seen.rounded),
            bound=[],
            hint="keep the weights in fp32 (`full.precision` sets autocast), or use a higher learning rate",
        )
    text = f"all {count(seen.checked, 'trainable parameter')} changed" if seen.checked != 1 else "the parameter changed"
    return finding(status="pass", text=text)


def _causes(seen: Updates) -> str:
    """Say in parentheses why parameters did not change, as far as it is known."""
    causes = (
        (seen.outside_optimizer, "not in the optimizer"),
        (seen.without_gradient, "without a gradient"),
        (seen.zero_rate, "with learning rate 0"),
    )
    known = [f"{len(names):,} {what}" for names, what in causes if names]
    return f" ({', '.join(known)})" if known else ""


CHECK = Check(
    id="updates",
    question="Do all trainable parameters change during the run, and do frozen ones stay as they are?",
    when="end of a stage",
    verdict="hold",
    key="task",
    reasons=(
        Reason(id="parameters-not-updated", status="fail", when="a trainable parameter did not change"),
        Reason(id="frozen-parameter-changed", status="fail", when="a frozen parameter changed", certain=True),
        Reason(
            id="parameters-stopped",
            status="fail",
            when="half of the trainable parameters or more did not change in the second half of the stage",
            certain=True,
        ),
        Reason(
            id="parameters-stopped",
            status="warn",
            when="some trainable parameters did not change in the second half of the stage",
        ),
        Reason(
            id="lost-in-rounding",
            status="warn",
            when="updates of a parameter are smaller than the spacing of its values",
        ),
        *NOT_MADE,
    ),
    at_end=parameter_updates,
)
