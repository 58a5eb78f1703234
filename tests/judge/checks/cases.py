"""Cases that several modules of tests check."""

from __future__ import annotations

from typing import Any

from pytest_smoke.recipe.case import Case
from pytest_smoke.recipe.model import Mode, Recipe

FULL: dict[str, Any] = {
    "batch_size": 16,
    "grad_accum_steps": 8,
    "learning_rate": 5e-4,
    "warmup_steps": 1000,
    "max_steps": 50_000,
    "grad_clip_norm": 1.0,
}


def of_trainer(*, read: dict[str, Any]) -> Case:
    """Return a case of a trainer that tells `read` of its full run; its recipe repeats two of these settings."""
    full = {"batch_size": 16, "learning_rate": 3e-3}
    recipe = Recipe.model_validate({"hf": "a:b", "full": full, "smoke": {"max_steps": 600}})
    return Case(path="a.smoke.yaml", recipe=recipe, mode="constant").with_read(read)


def case(
    *, full: dict[str, Any] | None = None, mode: Mode = "constant", args: dict[str, Any] | None = None, **smoke: Any
) -> Case:
    """Return a case of a recipe; the keywords are those of its `smoke` section."""
    recipe = Recipe.model_validate(
        {"task": "a:B", "args": args or {}, "full": {**FULL, **(full or {})}, "smoke": {"max_steps": 2500, **smoke}}
    )
    return Case(path="a.smoke.yaml", recipe=recipe, mode=mode)
