"""One mode of one ablation cell of a recipe: what a single smoke runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_smoke.recipe.model import Mode, Pipeline, Recipe, Settings
from pytest_smoke.recipe.modes import SCHEDULE_OF_MODE, WIRING_STEPS
from pytest_smoke.recipe.resume import resume_window
from pytest_smoke.recipe.spans import Span, spans_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A smoke to be run. Two cases of one recipe differ in mode or in one ablated setting."""

    path: str
    """The recipe's file, as a POSIX path from pytest's rootdir (absolute where it lies outside)."""
    recipe: Recipe
    """The recipe with the cell's setting applied."""
    mode: Mode
    """The mode it runs in."""
    cell: str | None = None
    """Name of the ablation cell; None for the baseline."""
    stage: str | None = None
    """The stage that this case is one window of; None for a whole smoke."""
    places: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """`path:line` by dotted key, for messages."""

    @property
    def name(self) -> str:
        """`constant` or `constant[cell]`, the item's name."""
        return self.mode if self.cell is None else f"{self.mode}[{self.cell}]"

    @property
    def full(self) -> Settings:
        """The full run's settings."""
        return self.recipe.full

    @property
    def declared(self) -> dict[str, Any]:
        """Settings of the full run that the smoke names itself, equal or not; only `grad_clip_norm` may be null."""
        smoke = self.recipe.smoke
        named = {key: getattr(smoke, key) for key in Settings.model_fields if key in smoke.model_fields_set}
        return {key: value for key, value in named.items() if value is not None or key == "grad_clip_norm"}

    @property
    def settings(self) -> Settings:
        """The smoke's settings: the full run's, but for its own length, what it declares, and the mode's schedule."""
        inherited = {**self.full.model_dump(), "lr_schedule": SCHEDULE_OF_MODE[self.mode]}
        weights = {**self.full.loss_weights, **self.recipe.smoke.loss_weights}
        return Settings(**{**inherited, **self.declared, "loss_weights": weights})

    @property
    def pipeline(self) -> Pipeline | None:
        """What the pipeline after training may cost; None: there is none."""
        asked = self.recipe.smoke.pipeline
        if isinstance(asked, bool):
            return Pipeline() if asked else None
        return asked

    @property
    def spans(self) -> tuple[Span, ...]:
        """The stages' places in this smoke, in order; empty where the recipe declares none."""
        at_most = WIRING_STEPS if self.mode == "wiring" else None
        return spans_of(self.recipe.stages, self.recipe.smoke.steps_per_epoch, at_most=at_most)

    @property
    def run_steps(self) -> int:
        """Optimizer steps this smoke runs."""
        if self.recipe.stages:
            return self.spans[-1].end
        smoke = self.recipe.smoke
        steps = min(smoke.run_steps or smoke.max_steps, smoke.max_steps)
        return min(steps, WIRING_STEPS) if self.mode == "wiring" else steps

    @property
    def resume_window(self) -> tuple[int, int] | None:
        """The step before which the `resume` check saves the state, and how many steps it compares; None: no check."""
        return resume_window(self.recipe.checks.resume, self.run_steps, self.spans)
