"""The recipe key `checks.resume`: at which step a smoke run is resumed, and how many steps are compared."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Annotated

from pytest_smoke.recipe.fields import Count, Frozen, form_by_kind
from pytest_smoke.recipe.stages import Stage

RESUMED_STEPS = 32
"""Steps that are compared. A lost data position shows at the first of them, a lost optimizer state at the second."""


class ResumeSpec(Frozen):
    """Step at which the check `resume` resumes the run."""

    at_step: Count | None = None
    """Optimizer step before which the state is saved. Default: a prime near the middle of the last stage, so that it is
    no multiple of an evaluation or epoch length."""
    steps: Count | None = None
    """Optimizer steps that the resumed run makes, within the same stage. Default: 32, or what is left of the stage."""


Resume = Annotated[bool | ResumeSpec, form_by_kind(bool, bool, ResumeSpec)]


def resume_window(spec: Resume, stages: Sequence[Stage]) -> tuple[int, int] | None:
    """Return the step before which the state is saved and the number of steps compared; None if the check is off.

    Both are inside one of `stages`, the last one if the recipe names no step.
    """
    if not spec:
        return None
    settings = ResumeSpec() if spec is True else spec
    at = settings.at_step or _prime_in_second_half(stages[-1].first_step, stages[-1].end)
    end = next((stage.end for stage in stages if stage.first_step <= at < stage.end), 0)
    return (at, min(settings.steps or RESUMED_STEPS, end - at)) if at and at < end else None


def resume_fault(spec: Resume, stages: Sequence[Stage]) -> str:
    """Return what is wrong with the steps that a recipe names; empty if nothing is."""
    if isinstance(spec, bool) or spec.at_step is None:
        return ""
    at, end, run_steps = spec.at_step, spec.at_step + (spec.steps or 1), stages[-1].end
    if end > run_steps:
        return f"checks.resume ends at step {end}, but the smoke run ends at step {run_steps}; resume earlier"
    for stage in stages:
        if stage.first_step <= at < stage.end < end:
            return (
                f"checks.resume ends at step {end}, but its stage {stage.name} ends at step {stage.end}; "
                "resume earlier, or in another stage"
            )
    return ""


def _prime_in_second_half(first: int, end: int) -> int:
    """Return the first prime; 0 if there is none."""
    return next((n for n in range(max(2, (first + end) // 2), end) if _prime(n)), 0)


def _prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, isqrt(number) + 1))
