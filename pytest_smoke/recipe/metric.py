"""What a recipe declares of a metric, so that a reading can say what its values mean."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from pytest_smoke.recipe.fields import Frozen

Finite = Annotated[float, Field(ge=-1e50, le=1e50, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]


class Metric(Frozen):
    """One metric of the task's `evaluate`. Nothing here can fail a smoke; a criterion can."""

    better: Literal["higher", "lower"] | None = None
    """Which way is better; absent: lower if the name says loss, nll, perplexity, error or alike, else higher."""
    kind: Literal["teacher-forced", "free-running"] | None = None
    """Whether the model is given the gold prefix, or must go on from what it generated itself."""
    condition: Name | None = None
    """Condition it is measured under (`latent`, `text`, ...); metrics of one condition are read together."""
    against: Name | None = None
    """The metric of another condition that this one is compared with: an upper bound or a fairness baseline."""
    items: Annotated[int, Field(ge=1, le=10**12)] | None = None
    """Evaluated items it is a mean over, each between 0 and 1: then its noise is that of a proportion."""
    chance: Finite | None = None
    """Level that a model which has learnt nothing would have."""
    target: Finite | None = None
    """Value the full run must reach."""

    @field_validator("chance", "target")
    @classmethod
    def _a_proportion(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("items") is not None and not 0 <= value <= 1:
            raise ValueError(f"{value:g} is no mean of items between 0 and 1; write it as a share, or leave items out")
        return value
