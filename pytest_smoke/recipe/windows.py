"""A smoke as the windows it is judged in: one for each stage, or the whole of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Smoke
from pytest_smoke.recipe.spans import Span
from pytest_smoke.recipe.stages import epoch_steps, full_steps, smoke_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Steps that are scheduled and judged as one smoke."""

    case: Case
    """The window as a smoke of its own: its length, its learning rate, its warm-up, its weights."""
    first_step: int
    """Its first step in the whole smoke."""
    steps: int
    """How many it has."""
    span: Span | None = None
    """The stage; None for a smoke without stages."""

    @property
    def name(self) -> str:
        """The stage's name; empty for a smoke without stages."""
        return self.case.stage or ""

    @property
    def end(self) -> int:
        """The step after its last."""
        return self.first_step + self.steps

    @property
    def steps_per_epoch(self) -> int | None:
        """Optimizer steps in one epoch of the window."""
        declared = self.case.recipe.smoke.steps_per_epoch
        return epoch_steps(self.span.stage, declared) if self.span else declared

    def id(self, check: str) -> str:
        """`loss-trend`, or `loss-trend[A]` in a smoke with stages."""
        return f"{check}[{self.name}]" if self.span else check

    def phase_at(self, step: int) -> str:
        """The phase that a step of the window lies in; empty where there are none."""
        return next((name for name, first in reversed(self.span.phases) if first <= step), "") if self.span else ""


def windows_of(case: Case) -> tuple[Window, ...]:
    """The windows of a smoke, in order; one, the smoke itself, where the recipe declares no stages."""
    if not case.recipe.stages:
        return (Window(case=case, first_step=0, steps=case.run_steps),)
    return tuple(
        Window(case=_stage_case(case, span), first_step=span.first_step, steps=span.steps, span=span)
        for span in case.spans
    )


def _stage_case(case: Case, span: Span) -> Case:
    """The stage as a smoke of its own, in a full run that is this stage alone.

    Only the first stage starts from scratch: a later one goes on from weights that have learnt.
    """
    recipe, stage, full = case.recipe, span.stage, case.full
    own = {key: value for key in ("learning_rate", "warmup_steps") if (value := getattr(stage, key)) is not None}
    own |= {
        "max_steps": full_steps(stage),
        "loss_weights": {**full.loss_weights, **stage.loss_weights},
        "from_scratch": full.from_scratch and span.first_step == 0,
    }
    changed = {"full": full.model_copy(update=own), "smoke": _stage_smoke(case, span, own), "stages": []}
    return replace(case, recipe=recipe.model_copy(update=changed), stage=stage.name)


def _stage_smoke(case: Case, span: Span, own: dict[str, object]) -> Smoke:
    """The smoke's own settings without those that merely repeat what the stage replaces."""
    smoke, full = case.recipe.smoke, case.full
    kept = {
        key: getattr(smoke, key)
        for key in smoke.model_fields_set
        if key not in own or getattr(smoke, key) != getattr(full, key)
    }
    weights = {
        term: weight
        for term, weight in smoke.loss_weights.items()
        if term not in span.stage.loss_weights or weight != full.loss_weights.get(term)
    }
    length = smoke_steps(span.stage, smoke.steps_per_epoch)
    return Smoke.model_validate({**kept, "loss_weights": weights, "max_steps": length})
