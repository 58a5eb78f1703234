"""The `updates` check: parameters that should train must change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pytest_smoke.judge.finding import Finding

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


def updates(seen: Updated) -> Finding:
    """Fails if a parameter that requires a gradient did not change from the first step to the last."""
    if not seen.stuck:
        return Finding(id="updates", status="pass", text=f"all {seen.checked} trainable parameters changed")
    names = ", ".join(seen.stuck[:NAMED]) + (f" and {len(seen.stuck) - NAMED} more" if len(seen.stuck) > NAMED else "")
    causes = []
    if seen.outside_optimizer:
        causes.append(f"{len(seen.outside_optimizer)} not in the optimizer")
    if seen.without_gradient:
        causes.append(f"{len(seen.without_gradient)} without a gradient")
    why = f" ({', '.join(causes)})" if causes else ""
    return Finding(
        id="updates",
        status="fail",
        reason="stuck",
        text=f"{len(seen.stuck)} of {seen.checked} trainable parameters did not change: {names}{why}",
        observed=list(seen.stuck),
        bound=[],
        hint="set requires_grad=False on what is meant to be frozen; give the rest to the optimizer and to a loss term",
    )
