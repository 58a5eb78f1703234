"""Which mode a change calls for, and what a mode promises."""

from __future__ import annotations

from pytest_smoke.recipe.model import Change, Mode, Smoke

MODE_OF_CHANGE: dict[Change | None, Mode] = {
    None: "constant",  # when in doubt: a stable recipe flagged costs one launch, a divergent one passed costs a night
    "new-recipe": "constant",
    "new-loss": "constant",
    "new-normalization": "constant",
    "new-tokenizer": "constant",
    "new-class-weights": "constant",
    "new-learning-rate": "constant",
    "tweak": "constant",
    "tweak-cosine-matters": "long-tail",
    "integration": "wiring",
    "reproduce-divergence": "constant",
}

SCHEDULE_OF_MODE: dict[Mode, str] = {"constant": "constant", "long-tail": "cosine", "wiring": "constant"}
"""The `lr_schedule` each mode promises."""

LONG_TAIL_MIN_STEPS = 10_000
"""Below this horizon a cosine tail reaches into the window that is judged."""
WIRING_STEPS = 10
"""Optimizer steps of a wiring run: enough to cross an accumulation, an update and an evaluation."""


def modes_of(smoke: Smoke, override: Mode | None = None) -> list[Mode]:
    """The modes to run: `override` (the command line), else the recipe's own, else what its change calls for."""
    if override is not None:
        return [override]
    if smoke.mode is None:
        return [MODE_OF_CHANGE[smoke.change]]
    return [smoke.mode] if isinstance(smoke.mode, str) else list(dict.fromkeys(smoke.mode))
