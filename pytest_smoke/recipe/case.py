"""One mode of one ablation cell of a recipe: what a single smoke run executes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

from pydantic import ValidationError

from pytest_smoke.allowed import PROJECT_ONLY, AllowedCode
from pytest_smoke.criteria import parse
from pytest_smoke.errors import TaskError
from pytest_smoke.events import SERIES
from pytest_smoke.recipe.configs.settings import TrainerConfig
from pytest_smoke.recipe.explain import problems
from pytest_smoke.recipe.model import SELF_DESCRIBING, Mode, Pipeline, Recipe, Settings
from pytest_smoke.recipe.modes import SCHEDULE_OF_MODE, WIRING_STEPS
from pytest_smoke.recipe.resume import resume_window
from pytest_smoke.recipe.stages import Stage, smoke_steps, stages_of


@dataclass(frozen=True, kw_only=True)
class Case:
    """A smoke run to execute. Two cases of one recipe differ in their mode or in one ablated setting."""

    path: str
    """The recipe's file, as a POSIX path relative to pytest's rootdir (absolute if it is outside)."""
    recipe: Recipe
    """The recipe with the cell's setting applied."""
    mode: Mode
    """The mode of the smoke run."""
    cell: str | None = None
    """Name of the ablation cell; None for the baseline."""
    places: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """`path:line` by dotted recipe key, for messages."""
    checksums: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """SHA-256 of each file that the recipe was read from, by absolute path."""
    configs: Mapping[str, TrainerConfig] = field(default_factory=dict, compare=False, repr=False)
    """The config files that `full` and `smoke` were read from, by section."""
    text: str = field(default="", compare=False, repr=False)
    """The recipe as it was read, with the files that it extends; empty if it was written in Python."""
    allowed: AllowedCode = field(default=PROJECT_ONLY, compare=False, repr=False)
    """The code that the recipe may name besides that of the rootdir."""
    read: Mapping[str, Any] | None = None
    """Settings of the full run as its trainer has them; None if the recipe has them, or before they are read."""
    repeated: Mapping[str, Any] = field(default_factory=dict)
    """Those of them that the recipe names, too, with the recipe's values."""

    @property
    def is_complete(self) -> bool:
        """Whether the settings of the full run are known: those of some trainers are read before the run."""
        return self.read is not None or self.recipe.trainer not in SELF_DESCRIBING

    def with_read(self, read: Mapping[str, Any]) -> Self:
        """Return the case with the settings of the full run that its trainer has. Raises TaskError for unusable ones.

        They count even where the recipe repeats another value, which fails the check `settings`.
        """
        try:
            full = Settings(**{**self.full.model_dump(), **read})
        except ValidationError as error:
            texts = "; ".join(problem.text for problem in problems(error, within=("full",)))
            raise TaskError(f"the trainer has settings that a full run cannot have: {texts}", key="full") from None
        recipe = self.recipe.model_copy(update={"full": full})
        return replace(self, recipe=recipe, read=dict(read), repeated=self.recipe.repeated)

    @property
    def named_metrics(self) -> frozenset[str]:
        """Metrics that the criteria of the run read, but for the series of every run."""
        texts = [*self.recipe.checks.accept, *(text for stage in self.stages for text in stage.accept)]
        return frozenset(name for text in texts for name in parse(text).metrics) - {*SERIES}

    @property
    def name(self) -> str:
        """The item's name: `constant` or `constant[cell]`."""
        return self.mode if self.cell is None else f"{self.mode}[{self.cell}]"

    @property
    def full(self) -> Settings:
        """The settings of the full run."""
        return self.recipe.full

    @cached_property
    def declared(self) -> dict[str, Any]:
        """Settings that the `smoke` section names itself, equal to the full run's or not.

        Of all settings only `grad_clip_norm` may be null.
        """
        smoke = self.recipe.smoke
        named = {key: getattr(smoke, key) for key in Settings.model_fields if key in smoke.model_fields_set}
        return {key: value for key, value in named.items() if value is not None or key == "grad_clip_norm"}

    @cached_property
    def settings(self) -> Settings:
        """The settings of the smoke run: the full run's, except its length, what `smoke` declares, and the schedule."""
        inherited = {**self.full.model_dump(), "lr_schedule": SCHEDULE_OF_MODE[self.mode]}
        weights = {**self.full.loss_weights, **self.recipe.smoke.loss_weights}
        return Settings(**{**inherited, **self.declared, "loss_weights": weights})

    @property
    def pipeline(self) -> Pipeline | None:
        """The limits of the export pipeline that follows training; None if the recipe asks for no pipeline."""
        asked = self.recipe.smoke.pipeline
        if isinstance(asked, bool):
            return Pipeline() if asked else None
        return asked

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the smoke run in order; one without a name if the recipe declares none."""
        return stages_of(
            self.recipe, self.settings, self.declared, run_steps=self.run_steps, at_most=self._longest_stage
        )

    @property
    def run_steps(self) -> int:
        """Optimizer steps of the smoke run."""
        smoke, longest = self.recipe.smoke, self._longest_stage
        if self.recipe.stages:
            lengths = [smoke_steps(stage, smoke.steps_per_epoch) for stage in self.recipe.stages]
        else:
            lengths = [min(smoke.run_steps or smoke.max_steps, smoke.max_steps)]
        return sum(lengths if longest is None else (min(length, longest) for length in lengths))

    @property
    def resume_window(self) -> tuple[int, int] | None:
        """The step before which the `resume` check saves the state and the steps it compares; None if it is off."""
        return resume_window(self.recipe.checks.resume, self.stages)

    def key(self, *candidates: str) -> str:
        """Return the first of these dotted recipe keys that the file contains; the last one if it contains none."""
        return next((key for key in candidates if key in self.places), candidates[-1])

    def place_of(self, key: str) -> str:
        """Return `path:line` of a dotted recipe key, of the nearest key above it that the file has, or of line 1."""
        while key:
            if key in self.places:
                return self.places[key]
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return f"{self.path}:1"

    def read_from(self, section: str, key: str) -> str | None:
        """Return the config file that a setting of `full` or `smoke` was read from; None if the recipe states it."""
        config = self.configs.get(section)
        if config is None or key not in config.values:
            return None
        return config.file.path if self.places.get(f"{section}.{key}", "").startswith(f"{config.file.path}:") else None

    @property
    def _longest_stage(self) -> int | None:
        return WIRING_STEPS if self.mode == "wiring" else None
