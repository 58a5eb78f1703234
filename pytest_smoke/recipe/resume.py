"""Where the check `resume` cuts a smoke."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Annotated

from pytest_smoke.recipe.fields import Count, Frozen, form_by_kind
from pytest_smoke.recipe.stages import Stage

RESUMED_STEPS = 32
"""Steps the check compares: a lost optimizer state shows at the second, a lost order of data at the first."""


class ResumeCheck(Frozen):
    """Where the `resume` check cuts the run."""

    at_step: Count | None = None
    """The step before which the state is saved; absent: a prime near the middle of the run, or of its last stage, which
    no cadence of a run divides."""
    steps: Count | None = None
    """Optimizer steps that the resumed run makes, in the same stage; absent: 32, or as many as are left of it."""


Resume = Annotated[bool | ResumeCheck, form_by_kind(bool, bool, ResumeCheck)]


def resume_window(asked: Resume, stages: Sequence[Stage]) -> tuple[int, int] | None:
    """Return the step before which the state is saved and the number of steps compared; None if the check is off.

    Both are inside one of `stages`, the last one if the recipe names no step.
    """
    if not asked:
        return None
    settings = ResumeCheck() if asked is True else asked
    at = settings.at_step or _prime_in_second_half(stages[-1].first_step, stages[-1].end)
    end = next((stage.end for stage in stages if stage.first_step <= at < stage.end), 0)
    return (at, min(settings.steps or RESUMED_STEPS, end - at)) if at and at < end else None


def resume_fault(asked: Resume, stages: Sequence[Stage]) -> str:
    """What is wrong with the steps that a recipe names; empty where nothing is."""
    if isinstance(asked, bool) or asked.at_step is None:
        return ""
    at, end, run_steps = asked.at_step, asked.at_step + (asked.steps or 1), stages[-1].end
    if end > run_steps:
        return f"checks.resume ends at step {end}, after the smoke's {run_steps} steps; at most that"
    for stage in stages:
        if stage.first_step <= at < stage.end < end:
            return (
                f"checks.resume ends at step {end}, after stage {stage.name} ends at step {stage.end}; "
                "stay within a stage"
            )
    return ""


def _prime_in_second_half(first: int, end: int) -> int:
    """0 where there is none."""
    return next((n for n in range(max(2, (first + end) // 2), end) if _prime(n)), 0)


def _prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, isqrt(number) + 1))
