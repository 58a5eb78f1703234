"""The `updates` check: parameters that should train must change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pytest_smoke.outcome import Finding

NAMED = 5
"""Parameters a sentence names before it counts the rest."""


class Updated(Protocol):
    """What was seen of the parameters that require a gradient."""

    @property
    def stuck(self) -> Sequence[str]:
        """Names of those that are bit for bit what they were."""

    @property
    def without_gradient(self) -> Sequence[str]:
        """Those of them that had no gradient at the last step."""

    @property
    def outside_optimizer(self) -> Sequence[str]:
        """Those of them that the optimizer does not hold."""

    @property
    def checked(self) -> int:
        """How many were compared."""

    @property
    def moved(self) -> Sequence[str]:
        """Names of those that a stage freezes and that changed."""


def updates(seen: Updated, *, id: str = "updates") -> Finding:
    """Fails if a parameter that requires a gradient did not change from the first step to the last, or another did.

    `id`: what the finding goes by, where a stage has its own.
    """
    if not seen.stuck and not seen.moved:
        return Finding(id=id, status="pass", text=f"all {seen.checked} trainable parameters changed")
    if not seen.stuck:
        return Finding(
            id=id,
            status="fail",
            reason="moved",
            text=f"{len(seen.moved)} frozen parameters changed: {_named(seen.moved)}",
            observed=list(seen.moved),
            bound=[],
            hint="the stage's train: globs freeze them; something beside the optimizer writes to them",
        )
    names = _named(seen.stuck)
    causes = []
    if seen.outside_optimizer:
        causes.append(f"{len(seen.outside_optimizer)} not in the optimizer")
    if seen.without_gradient:
        causes.append(f"{len(seen.without_gradient)} without a gradient")
    why = f" ({', '.join(causes)})" if causes else ""
    return Finding(
        id=id,
        status="fail",
        reason="stuck",
        text=f"{len(seen.stuck)} of {seen.checked} trainable parameters did not change: {names}{why}",
        observed=list(seen.stuck),
        bound=[],
        hint="set requires_grad=False on what is meant to be frozen; give the rest to the optimizer and to a loss term",
    )


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
